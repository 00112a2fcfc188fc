//! The examples, run over memory and over tiers, with time moved by hand.

use std::sync::Arc;
use std::time::Duration;

use cache_factory::Caches;
use cache_factory::cache_core::{
    CacheKey, CacheStorage, ClearScope, ManualClock, TierOptions, TieredStorage, hours, mins,
};
use cache_factory::cache_memory::MemoryCacheStorage;

#[path = "../examples/api_cache.rs"]
#[expect(dead_code, reason = "its main is for running it by hand")]
mod api_cache;
#[path = "../examples/geolocation.rs"]
#[expect(dead_code, reason = "its main is for running it by hand")]
mod geolocation;
#[path = "../examples/parsed_config.rs"]
#[expect(dead_code, reason = "its main is for running it by hand")]
mod parsed_config;
#[path = "../examples/sessions.rs"]
#[expect(dead_code, reason = "its main is for running it by hand")]
mod sessions;
#[path = "../examples/unknown_users.rs"]
#[expect(dead_code, reason = "its main is for running it by hand")]
mod unknown_users;

/// Time that passes when an example waits for it.
#[derive(Clone, Default)]
struct Time(ManualClock);

impl Time {
    fn memory(&self) -> MemoryCacheStorage {
        MemoryCacheStorage::with_clock(self.0.clone())
    }

    fn tiers(&self) -> TieredStorage {
        tiers(self.memory(), self.memory())
    }

    /// Moves the clock, and lets every task that has something to do go on.
    async fn pass(self, span: Duration) {
        self.0.advance(span);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
}

/// Copies in a fast storage, everything in a slow one.
fn tiers(hot: impl CacheStorage, truth: impl CacheStorage) -> TieredStorage {
    TieredStorage::builder()
        .tier_with(hot, TierOptions::default().with_name("hot"))
        .tier_with(truth, TierOptions::default().with_name("truth"))
        .build()
        .expect("the tiers have different names")
}

#[tokio::test]
async fn sessions_end_when_they_should() {
    let time = Time::default();
    for caches in [Caches::over(time.memory()), Caches::over(time.tiers())] {
        sessions::run(&caches, |span| time.clone().pass(span))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_session_that_the_hot_tier_has_lost_is_copied_back_from_the_truth() {
    let time = Time::default();
    let hot: Arc<dyn CacheStorage> = Arc::new(time.memory());
    let caches = Caches::over(tiers(Arc::clone(&hot), time.memory()));
    let sessions = sessions::Sessions::new(&caches, mins(15), hours(8)).unwrap();
    let copy = CacheKey::from("session:42");
    sessions.log_in("42", "alice").await.unwrap();

    hot.clear(&ClearScope::everything()).await.unwrap();
    let user = sessions.validate("42").await.unwrap();
    assert_eq!(user.as_deref(), Some("alice"));
    assert!(hot.has(&copy).await.unwrap());

    sessions.log_out("42").await.unwrap();
    assert!(!hot.has(&copy).await.unwrap());
    assert_eq!(sessions.validate("42").await.unwrap(), None);
}

#[tokio::test]
async fn a_touch_after_the_log_out_of_another_process_revives_nothing() {
    let time = Time::default();
    let truth: Arc<dyn CacheStorage> = Arc::new(time.memory());
    let caches = Caches::over(tiers(time.memory(), Arc::clone(&truth)));
    let sessions = sessions::Sessions::new(&caches, mins(15), hours(8)).unwrap();
    sessions.log_in("42", "alice").await.unwrap();

    // Another process cannot reach the copies of this one.
    truth.delete(&CacheKey::from("session:42")).await.unwrap();
    assert!(sessions.validate("42").await.unwrap().is_some());
    let began = sessions.now().as_millis();
    assert!(!sessions.touch("42", began).await.unwrap());
    assert_eq!(sessions.validate("42").await.unwrap(), None);
}

#[tokio::test]
async fn answers_are_served_while_new_ones_are_fetched() {
    let time = Time::default();
    for caches in [Caches::over(time.memory()), Caches::over(time.tiers())] {
        api_cache::run(&caches, |span| time.clone().pass(span))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_batch_of_addresses_is_located_at_once() {
    let time = Time::default();
    for caches in [Caches::over(time.memory()), Caches::over(time.tiers())] {
        geolocation::run(&caches, |span| time.clone().pass(span))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_configuration_is_parsed_once() {
    let time = Time::default();
    for caches in [Caches::over(time.memory()), Caches::over(time.tiers())] {
        parsed_config::run(&caches, |span| time.clone().pass(span))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn users_that_do_not_exist_are_remembered() {
    let time = Time::default();
    for caches in [Caches::over(time.memory()), Caches::over(time.tiers())] {
        unknown_users::run(&caches, |span| time.clone().pass(span))
            .await
            .unwrap();
    }
}
