//! What a cluster does to the Redis storage.

mod failover;
mod reshard;
mod shards;
mod slots;
mod support;
mod trouble;
