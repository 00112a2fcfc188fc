//! Loads that are begun by the loaders of others.

use std::sync::Arc;

use super::flight::{Crew, Flight};
use crate::fills::Fill;

tokio::task_local! {
    static WITHIN: Arc<Within>;
}

/// A load, and the one whose loader waits for it.
pub(super) struct Within {
    fill: Arc<Fill<Flight>>,
    outer: Option<Arc<Self>>,
}

impl Within {
    /// A load of this flight, which the present code will wait for, or will not.
    pub(super) fn new(fill: &Arc<Fill<Flight>>, is_waited_for: bool) -> Arc<Self> {
        let outer = WITHIN.try_with(Arc::clone).ok();
        Arc::new(Self {
            fill: Arc::clone(fill),
            outer: outer.filter(|_| is_waited_for),
        })
    }

    /// Runs the load: what it begins is known to be within it, unless in tasks of its own.
    pub(super) async fn run<R>(self: Arc<Self>, load: impl Future<Output = R>) -> R {
        WITHIN.scope(self, load).await
    }
}

/// Whether the load of this crew waits for the present code, so that waiting for it would never
/// end.
pub(super) fn is_within(crew: &Crew) -> bool {
    let is_within = |within: &Arc<Within>| {
        let mut level = Some(within);
        while let Some(within) = level {
            if std::ptr::eq(within.fill.payload.crew(), crew) {
                return true;
            }
            level = within.outer.as_ref();
        }
        false
    };
    WITHIN.try_with(is_within).unwrap_or_default()
}
