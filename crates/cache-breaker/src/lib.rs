//! A circuit breaker for storages and for any other async operation.
