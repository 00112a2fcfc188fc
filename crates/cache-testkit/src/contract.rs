//! The contract of [`CacheStorage`](cache_core::CacheStorage) as named cases, one a sentence.
//!
//! A [`Harness`] says how to make a fresh storage and how time passes for it; the cases adapt to
//! the limits that [`info`](cache_core::CacheStorage::info) declares. With the feature `runner`, a
//! test binary of `harness = false` is one call:
//!
//! ```
//! use std::process::ExitCode;
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! # #[cfg(feature = "runner")]
//! use cache_testkit::contract;
//! use cache_testkit::contract::{Harness, Subject};
//! use cache_core::ManualClock;
//! # use cache_core::DisabledStorage;
//!
//! struct Mine;
//!
//! #[async_trait]
//! impl Harness for Mine {
//!     fn name(&self) -> String {
//!         "mine".to_owned()
//!     }
//!
//!     async fn subject(&self) -> Subject {
//!         let clock = ManualClock::new();
//!         # let my_storage = |_| DisabledStorage::new();
//!         Subject::on_clock(my_storage(clock.clone()), clock)
//!     }
//! }
//!
//! # #[cfg(feature = "runner")]
//! fn main() -> ExitCode {
//!     # if true { return ExitCode::SUCCESS }
//!     contract::main(vec![Arc::new(Mine)])
//! }
//! # #[cfg(not(feature = "runner"))] fn main() {}
//! ```
//!
//! Each case is then a test such as `mine::reads::a_missing_key_is_none`; filters and `--list` work
//! as in any test binary. Without the feature, run each of [`cases`] with [`Case::run`].
//!
//! On a real clock, entries that are to be there live for a minute, and those that are to be gone
//! are waited out; nothing is asserted about the moment just before an expiry.

mod batches;
mod clear;
mod conditions;
mod context;
mod counters;
mod deletes;
mod expiry;
mod harness;
mod keys;
mod reads;
#[cfg(feature = "runner")]
mod runner;
mod sharing;
mod shutdown;
mod stale;
mod stats;
mod writes;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use context::Context;

pub use harness::{Harness, Subject};
#[cfg(feature = "runner")]
pub use runner::main;

/// One sentence of the contract and the test of it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// Theme and name, such as `reads::a_missing_key_is_none`.
    pub name: &'static str,
    /// The sentence that the case tests.
    pub sentence: &'static str,
    steps: for<'a> fn(&'a Context) -> Steps<'a>,
}

type Steps<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Case {
    /// Tests the sentence on a fresh storage of `harness`.
    ///
    /// Must be called within a tokio runtime whose timer is enabled.
    ///
    /// # Panics
    ///
    /// The storage breaks the sentence.
    pub async fn run(self, harness: Arc<dyn Harness>) {
        let context = Context::new(harness.subject().await);
        (self.steps)(&context).await;
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("sentence", &self.sentence)
            .finish_non_exhaustive()
    }
}

/// Every case of the suite, theme by theme.
pub fn cases() -> impl Iterator<Item = Case> {
    [
        keys::CASES,
        reads::CASES,
        writes::CASES,
        conditions::CASES,
        batches::CASES,
        deletes::CASES,
        expiry::CASES,
        stale::CASES,
        counters::CASES,
        clear::CASES,
        sharing::CASES,
        stats::CASES,
        shutdown::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The cases of one theme: functions whose documentation is the sentence.
macro_rules! theme {
    (
        $theme:literal
        $(
            $(#[doc = $line:literal])+
            async fn $name:ident($t:ident: &Context) $body:block
        )+
    ) => {
        pub(super) const CASES: &[$crate::contract::Case] = &[$(
            $crate::contract::Case {
                name: concat!($theme, "::", stringify!($name)),
                sentence: concat!($($line),+).trim_ascii_start(),
                steps: |t| Box::pin($name(t)),
            }
        ),+];

        $(
            $(#[doc = $line])+
            async fn $name($t: &Context) $body
        )+
    };
}

use theme;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_sentences_are_unique() {
        let names: HashSet<_> = cases().map(|case| case.name).collect();
        let sentences: HashSet<_> = cases().map(|case| case.sentence).collect();
        assert_eq!(names.len(), cases().count());
        assert_eq!(sentences.len(), cases().count());
    }
}
