//! What a cluster does to the Redis storage.

mod failover;
mod reshard;
mod slots;
mod support;
mod trouble;
