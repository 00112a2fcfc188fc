//! A fallback over storages that fail, hang, lose their replies, and come back.

mod outages;
mod promises;
mod resurrection;
