//! The Redis storage against real servers.

mod differential;
mod errors;
mod events;
mod format;
mod names;
mod outage;
mod outcomes;
mod support;
mod tiers;
