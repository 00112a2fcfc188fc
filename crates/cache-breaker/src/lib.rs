//! A circuit breaker for storages and for any other async operation.
//!
//! A backend in trouble costs every caller its whole time limit. A breaker notices, turns calls away
//! at once for a while, lets a single one through to see whether the trouble is over, and closes by
//! itself when it is.
//!
//! Around a storage:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cache_core::CacheError> {
//! use cache_breaker::{BreakerOptions, BreakerStorage, State};
//! use cache_core::{CacheService, ErrorKind, OnTrouble, mins};
//! use cache_memory::MemoryCacheStorage;
//!
//! let storage = BreakerStorage::new(MemoryCacheStorage::new(), BreakerOptions::default())?;
//! let breakers = storage.handle();
//! let sessions = CacheService::builder(storage)
//!     .prefix("session")
//!     .ttl(mins(15))
//!     .on_trouble(OnTrouble::Error)
//!     .build()?;
//!
//! sessions.set("42", "alice").await?;
//! assert!(breakers.breakers().iter().all(|lane| lane.state == State::Closed));
//!
//! breakers.force_open();
//! let error = sessions.get::<String>("42").await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Rejected);
//!
//! breakers.automatic();
//! assert_eq!(sessions.get::<String>("42").await?.as_deref(), Some("alice"));
//! # Ok(())
//! # }
//! ```
//!
//! Around anything else:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), cache_core::CacheError> {
//! use cache_breaker::{BreakerOptions, CallError, CircuitBreaker};
//!
//! let breaker = CircuitBreaker::new("geo", BreakerOptions::default())?;
//! for _ in 0..3 {
//!     let failed = breaker.call(async { Err::<(), _>("no route to host") }).await;
//!     assert_eq!(failed, Err(CallError::Failed("no route to host")));
//! }
//! let turned_away = breaker.call(async { Ok::<_, &str>("Vienna") }).await;
//! assert!(matches!(turned_away, Err(CallError::Rejected(_))));
//! # Ok(())
//! # }
//! ```
//!
//! [`BreakerOptions`] has the rules, each with its default, from code or from the environment.
//! [`Machine`] is the bare state machine, without clock and lock.

mod breaker;
mod lane;
mod options;
mod permit;
mod snapshot;
mod state;
mod storage;
mod verdict;

pub use breaker::{CallError, CircuitBreaker};
pub use options::BreakerOptions;
pub use permit::{Permit, Rejected};
pub use snapshot::Snapshot;
pub use state::{Admission, Counts, Machine, Outcome, Reason, State, Ticket, Transition};
pub use storage::{BreakerHandle, BreakerStorage};
pub use verdict::outcome_of;
