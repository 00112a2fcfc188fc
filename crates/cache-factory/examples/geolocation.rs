//! Where addresses are: batches, two layers of storage, and in front of both the places that this
//! process has just used, decoded.
//!
//! `CACHE_STORAGE_TYPE=memory,dynamodb` keeps the places of a process in its memory and everybody's
//! in DynamoDB; without variables there are two layers in memory.
//!
//! `cargo run --package cache-factory --features decoded --example geolocation`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_factory::cache_core::{
    CacheError, CacheService, DecodedOptions, LoadOptions, LoaderOutcome, TierOptions,
    TieredStorage, days, hours, secs,
};
use cache_factory::cache_memory::MemoryCacheStorage;
use cache_factory::{CacheStorageFactory, Caches};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), CacheError> {
    let caches = match std::env::var_os("CACHE_STORAGE_TYPE") {
        Some(_) => CacheStorageFactory::from_env()?,
        None => Caches::over(two_layers()?),
    };
    run(&caches, tokio::time::sleep).await
}

/// What `CACHE_STORAGE_TYPE=memory,dynamodb` makes, without the breaker and the meters.
fn two_layers() -> Result<TieredStorage, CacheError> {
    let fast = TierOptions::default().with_name("memory");
    let slow = TierOptions::default().with_name("slow");
    TieredStorage::builder()
        .tier_with(MemoryCacheStorage::new(), fast.with_ttl_cap(hours(1)))
        .tier_with(MemoryCacheStorage::new(), slow)
        .build()
}

/// City and country.
type Place = (String, String);

/// Stands for a service that locates addresses, a hundred in one request, and is paid by request.
#[derive(Default)]
struct Atlas(AtomicU64);

impl Atlas {
    /// Those that have a place. Private addresses have none.
    async fn locate(&self, addresses: Vec<&'static str>) -> Result<Places, std::io::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        println!("asked for {addresses:?}");
        let place = |address: &str| {
            let city = match address.split('.').next()? {
                "10" | "192" => return None,
                "80" => "Vienna",
                _ => "Graz",
            };
            Some((city.to_owned(), "Austria".to_owned()))
        };
        let located = |address| Some((address, place(address)?));
        Ok(addresses.into_iter().filter_map(located).collect())
    }

    fn requests(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

type Places = Vec<(&'static str, Place)>;

/// The places of `addresses`, in their order; the atlas is asked at most once.
async fn locate_all(
    geo: &CacheService,
    atlas: &Arc<Atlas>,
    addresses: &[&'static str],
) -> Result<Vec<Option<Arc<Place>>>, CacheError> {
    let atlas = Arc::clone(atlas);
    let loader = move |missing| async move { atlas.locate(missing).await };
    geo.get_many_or_load(addresses.iter().copied(), loader)
        .await
}

/// Two batches that overlap, and one address again and again; `wait` lets time pass.
pub(crate) async fn run<W: Future<Output = ()> + Send>(
    caches: &Caches,
    wait: impl Fn(Duration) -> W + Send,
) -> Result<(), CacheError> {
    let atlas = Arc::new(Atlas::default());
    let geo = caches
        .service("geo")
        .ttl(days(1))
        .load_options(LoadOptions::builder().absent_for(hours(1)).build()?)
        .decoded(DecodedOptions::new().ttl_cap(secs(2)))
        .build()?;

    let log = ["80.0.0.1", "10.0.0.7", "91.0.0.2", "80.0.0.1"];
    let places = locate_all(&geo, &atlas, &log).await?;
    assert_eq!(city(&places[0]), Some("Vienna"));
    assert_eq!(city(&places[1]), None);
    assert_eq!(city(&places[3]), Some("Vienna"));

    // Of the second batch only one address is new; that one of the others has no place is known.
    let places = locate_all(&geo, &atlas, &["91.0.0.2", "10.0.0.7", "92.0.0.3"]).await?;
    assert_eq!(city(&places[2]), Some("Graz"));
    assert_eq!(atlas.requests(), 2);

    // Decoded values are shared, not copied.
    let first = geo.get_arc::<Place>("80.0.0.1").await?;
    let again = geo.get_arc::<Place>("80.0.0.1").await?;
    let is_shared = first
        .zip(again)
        .map(|(first, again)| Arc::ptr_eq(&first, &again));
    assert_eq!(is_shared, Some(true));
    assert_eq!(tier(&geo).await?, Some("decoded"));

    // After the cap the layers below are asked, the fastest first.
    wait(secs(3)).await;
    let below = tier(&geo).await?;
    println!("3 s later the place comes from {below:?}");
    assert_ne!(below, Some("decoded"));
    assert_eq!(tier(&geo).await?, Some("decoded"));
    assert_eq!(atlas.requests(), 2);
    Ok(())
}

fn city(place: &Option<Arc<Place>>) -> Option<&str> {
    place.as_deref().map(|(city, _)| city.as_str())
}

/// Which tier has the place of an address.
async fn tier(geo: &CacheService) -> Result<Option<&'static str>, CacheError> {
    let loader = |_| async { LoaderOutcome::<Place>::failed("it is in the cache") };
    let loaded = geo.load("80.0.0.1", geo.load_options(), loader).await?;
    Ok(loaded.tier)
}
