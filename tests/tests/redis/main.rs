//! The Redis storage against real servers.

mod errors;
mod format;
mod outage;
mod support;
