//! The Redis storage over TLS, and with credentials that change.

mod passwords;
mod secrets;
mod support;
mod tls;
