//! The end of a storage.

use std::sync::Arc;
use std::time::Duration;

use cache_core::{CacheError, CacheKey, CacheStorage, ClearScope, ErrorKind, secs};

use super::context::{Context, fresh, key, kinds, refusal};
use super::theme;

const BUDGET: Duration = secs(5);

async fn shut_down(t: &Context) {
    t.shutdown(BUDGET).await.expect("the storage ends in time");
}

#[track_caller]
fn assert_closed(what: &str, error: &CacheError) {
    assert_eq!(error.kind(), ErrorKind::Closed, "{what}: {error}");
    assert!(!error.may_have_happened(), "{what}");
    assert!(!error.is_transient(), "{what}");
}

theme! {
    "shutdown"

    /// After a shutdown every method that takes a key is refused.
    async fn every_method_is_closed(t: &Context) {
        t.put("k", "v").await;
        assert!(!t.is_closed());
        shut_down(t).await;
        assert!(t.is_closed());
        for (method, error) in t.refusals(&key("k")).await {
            assert_closed(method, &error);
        }
    }

    /// After a shutdown clear and ping are refused.
    async fn clear_and_ping_are_closed(t: &Context) {
        t.ping().await.expect("the storage works");
        shut_down(t).await;
        assert_closed("ping", &refusal(t.ping().await));
        assert_closed("clear", &refusal(t.clear(&ClearScope::everything()).await));
        let scope = ClearScope::prefix("k").expect("the prefix is a key");
        assert_closed("clear", &refusal(t.clear(&scope).await));
    }

    /// After a shutdown each entry of a batch is refused, and an empty batch has no outcomes.
    async fn each_entry_of_a_batch_is_closed(t: &Context) {
        shut_down(t).await;
        let keys: [CacheKey; 3] = ["a", "b", "a"].map(key);
        let closed = [Some(ErrorKind::Closed); 3];
        assert_eq!(kinds(&t.get_many(&keys).await), closed);
        assert_eq!(kinds(&t.lookup_many(&keys).await), closed);
        assert_eq!(kinds(&t.delete_many(&keys).await), closed);
        let entries = keys.map(|key| (key, fresh("v"))).to_vec();
        assert_eq!(kinds(&t.set_many(entries).await), closed);
        assert!(t.get_many(&[]).await.is_empty());
        assert!(t.set_many(Vec::new()).await.is_empty());
    }

    /// A second shutdown returns at once.
    async fn a_second_shutdown_does_nothing(t: &Context) {
        shut_down(t).await;
        shut_down(t).await;
        t.shutdown(Duration::ZERO)
            .await
            .expect("there is nothing left to do");
        assert_closed("ping", &refusal(t.ping().await));
    }

    /// A storage that was never used can be shut down, with no time allowed for it.
    async fn an_unused_storage_is_shut_down(t: &Context) {
        t.shutdown(Duration::ZERO)
            .await
            .expect("there is nothing to wait for");
        assert_closed("get", &refusal(t.get(&key("k")).await));
    }

    /// A shutdown through one pointer closes the storage behind all of them.
    async fn a_shutdown_is_seen_by_all(t: &Context) {
        let other: Arc<dyn CacheStorage> = Arc::new(Arc::clone(&t.storage));
        shut_down(t).await;
        assert_closed("get", &refusal(other.get(&key("k")).await));
        assert_closed("ping", &refusal(other.ping().await));
    }

    /// What the storage says about itself can be read after a shutdown.
    async fn info_and_stats_are_readable(t: &Context) {
        t.put("k", "v").await;
        let (backend, writes) = (t.info().backend, t.get_stats().writes);
        shut_down(t).await;
        assert_eq!(t.info().backend, backend);
        assert_eq!(t.get_stats().writes, writes);
    }

    /// A refused call after a shutdown counts as an error.
    async fn a_closed_call_counts_as_an_error(t: &Context) {
        shut_down(t).await;
        let before = t.get_stats().errors;
        refusal(t.get(&key("k")).await);
        t.get_many(&["a", "b"].map(key)).await;
        assert_eq!(t.get_stats().errors - before, 3);
    }
}
