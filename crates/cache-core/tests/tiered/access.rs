//! Calls that leave tiers out.

use cache_core::{CacheStorage as _, PrefixStorage, TierAccess};

use super::*;

fn view(storage: &dyn CacheStorage, access: &TierAccess) -> Arc<dyn CacheStorage> {
    let view = storage.with_tiers(access).expect("the names are tiers");
    view.expect("there are tiers")
}

#[tokio::test]
async fn a_skipped_read_never_touches_the_tier() {
    let t = pair();
    set(&t.slow, "k", entry("v")).await.unwrap();
    let far = view(&*t.stack, &TierAccess::new().skip_reads("fast"));
    let before = t.fast.calls();
    assert_eq!(get(&*far, "k").await, answer("v", "slow"));
    far.get_many(&[key("k")]).await.remove(0).unwrap();
    assert!(far.has(&key("k")).await.unwrap());
    far.get_ttl(&key("k")).await.unwrap();
    assert_eq!(t.fast.calls(), before);

    let near = view(&*t.stack, &TierAccess::new().skip_reads("slow"));
    let before = t.slow.calls();
    assert_eq!(get(&*near, "k").await, None);
    assert!(!near.has(&key("k")).await.unwrap());
    assert_eq!(t.slow.calls(), before);
}

#[tokio::test]
async fn a_skipped_write_leaves_the_tier_alone_entirely() {
    let t = pair();
    set(&*t.stack, "k", entry("old")).await.unwrap();
    let far = view(&*t.stack, &TierAccess::new().skip_writes("fast"));
    let before = t.fast.calls();
    set(&*far, "k", entry("new")).await.unwrap();
    far.set_many(vec![(key("m"), entry("new"))])
        .await
        .remove(0)
        .unwrap();
    far.delete(&key("other")).await.unwrap();
    assert_eq!(t.fast.calls(), before);
    assert_eq!(get(&*t.stack, "k").await, answer("old", "fast"));
    assert_eq!(get(&*far, "m").await, answer("new", "slow"));
    assert_eq!(
        held(&t.fast, "m").await,
        None,
        "a read writes nothing either"
    );
}

#[tokio::test]
async fn without_the_last_tier_the_next_one_decides() {
    let t = pair();
    t.slow.start_outage(refused());
    let near = view(&*t.stack, &TierAccess::new().skip_writes("slow"));
    set(&*near, "k", entry("v")).await.unwrap();
    assert_eq!(get(&*t.stack, "k").await, answer("v", "fast"));
    let error = near
        .increment(&key("n"), 1, ttl(hours(1)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(near.delete(&key("k")).await.unwrap());
}

#[test]
fn names_that_are_no_tiers_and_views_of_nothing_are_refused() {
    let t = pair();
    let refused = |access: &TierAccess| {
        let error = t.stack.with_tiers(access).expect_err("it makes no sense");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.to_string()
    };
    let unknown = refused(&TierAccess::new().skip_reads("redis").skip_writes("disk"));
    assert!(
        unknown.contains("\"redis\" is not a tier; expected fast, slow"),
        "{unknown}"
    );
    assert!(unknown.contains("\"disk\""), "{unknown}");
    refused(&TierAccess::new().skip_reads("fast").skip_reads("slow"));
    refused(&TierAccess::new().skip_writes("fast").skip_writes("slow"));
    let once = view(&*t.stack, &TierAccess::new().skip_reads("fast"));
    let twice = once.with_tiers(&TierAccess::new().skip_reads("slow"));
    assert!(twice.is_err(), "views add up");
}

#[tokio::test]
async fn decorators_put_themselves_around_the_view() {
    let t = pair();
    let stack = Arc::new(PrefixStorage::new("app", Arc::clone(&t.stack)).unwrap());
    set(&*stack, "k", entry("v")).await.unwrap();
    let far = view(&*stack, &TierAccess::new().skip_reads("fast"));
    assert_eq!(get(&*far, "k").await, answer("v", "slow"));
    assert_eq!(get(&*stack, "k").await, answer("v", "fast"));
    far.shutdown(secs(1)).await.unwrap();
    assert!(stack.get(&key("k")).await.is_err(), "a view shares the end");
    let none = MemoryCacheStorage::new().with_tiers(&TierAccess::new().skip_reads("fast"));
    assert!(none.unwrap().is_none());
}
