//! Health checks, metrics, structured logs and an orderly end for caches.
