//! Loaders that load.

use cache_core::{CacheError, CacheService, ErrorKind, LoadOptions, LoaderOutcome};

use super::{Fixture, Source};

fn load(cache: CacheService, path: &'static [&'static str]) -> Loading {
    Box::pin(async move {
        let Some((key, rest)) = path.split_first() else {
            return Ok(7);
        };
        let inner = cache.clone();
        let loader = move |_| load(inner, rest);
        Ok(*cache.get_or_load(*key, loader).await?)
    })
}

type Loading = std::pin::Pin<Box<dyn Future<Output = Result<u64, CacheError>> + Send>>;

#[tokio::test]
async fn a_loader_may_load_another_key() {
    let t = Fixture::new();
    assert_eq!(load(t.cache.clone(), &["a", "b", "c"]).await.unwrap(), 7);
    assert_eq!(t.cache.get::<u64>("a").await.unwrap(), Some(7));
}

#[tokio::test]
async fn a_loader_that_waits_for_its_own_load_fails() {
    let t = Fixture::new();
    for path in [&["a", "a"][..], &["a", "b", "c", "a"]] {
        let error = load(t.cache.clone(), path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loader);
    }
    assert!(format!("{:?}", t.cache).contains("keys_under_way: 0"));
}

/// On a cold key a caller waits for the load whatever its options say of stale values.
#[tokio::test]
async fn a_loader_that_waits_for_its_own_load_fails_with_revalidation_too() {
    let options = LoadOptions::builder().stale_while_revalidate(true).build();
    let t = Fixture::with(|builder| builder.load_options(options.unwrap()));
    let error = load(t.cache.clone(), &["a", "b", "a"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

#[tokio::test]
async fn a_loader_may_write_and_delete_its_own_key() {
    let t = Fixture::new();
    let source = Source::default();
    let (cache, asks) = (t.cache.clone(), source.clone());
    let value = t.cache.get_or_load("k", move |_| async move {
        cache.delete("k").await?;
        cache.set("k", &1u64).await?;
        asks.value(2)
    });
    assert_eq!(*value.await.unwrap(), 2);
    // What was written is later than what was loaded.
    let value = t
        .cache
        .get_or_load("k", |_| async { LoaderOutcome::value(3u64) });
    assert_eq!(*value.await.unwrap(), 1);
}
