//! What the caches save work for: a database, a geolocation service and a renderer, all only
//! simulated.

use std::convert::Infallible;
use std::time::Duration;

use cache_core::{LoaderOutcome, millis};
use cache_tests::Request;
use serde::{Deserialize, Serialize};

/// What is known about a visitor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    visitor: u32,
    address: String,
    cart: Vec<u32>,
}

/// Where a visitor comes from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    country: String,
    latitude: f64,
    longitude: f64,
}

/// What a visitor is shown.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    status: u16,
    content_type: String,
    body: String,
}

/// Looks a visitor up in the database, which does not know one in eight of them.
pub(crate) async fn session(request: Request) -> LoaderOutcome<Session> {
    tokio::time::sleep(latency(request.session)).await;
    if request.session.is_multiple_of(8) {
        return LoaderOutcome::Absent;
    }
    LoaderOutcome::value(Session {
        visitor: request.session,
        address: request.client.to_string(),
        cart: vec![request.object],
    })
}

/// Looks an address up at a geolocation service.
pub(crate) async fn place(request: Request) -> Result<Place, Infallible> {
    let [.., high, low] = request.client.octets();
    tokio::time::sleep(latency(low.into())).await;
    Ok(Place {
        country: "AT".to_owned(),
        latitude: 46.5 + f64::from(high) / 8.0,
        longitude: 9.5 + f64::from(low) / 64.0,
    })
}

/// Renders what is asked for.
pub(crate) async fn response(request: Request) -> Result<Response, Infallible> {
    tokio::time::sleep(latency(request.object)).await;
    let Request {
        object, endpoint, ..
    } = request;
    Ok(Response {
        status: 200,
        content_type: "text/html; charset=utf-8".to_owned(),
        body: format!("<h1>{endpoint} of object {object}</h1>").repeat(16),
    })
}

/// 2 to 5 ms, always the same for the same thing.
fn latency(number: u32) -> Duration {
    millis(2 + u64::from(number % 4))
}
