//! A storage behind breakers.

#[path = "storage/batches.rs"]
mod batches;
#[path = "storage/lanes.rs"]
mod lanes;
#[path = "storage/limits.rs"]
mod limits;
#[path = "storage/scripted.rs"]
mod scripted;
#[path = "storage/waiting.rs"]
mod waiting;
