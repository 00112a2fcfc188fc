//! What the caches save work for: a database and a renderer, both only simulated.

use std::time::Duration;

use cache_core::millis;
use cache_tests::Request;
use serde::{Deserialize, Serialize};

/// What is known about a visitor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    visitor: u32,
    address: String,
    cart: Vec<u32>,
}

/// What a visitor is shown.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    status: u16,
    content_type: String,
    body: String,
}

/// Looks a visitor up in the database.
pub(crate) async fn session(request: Request) -> Session {
    tokio::time::sleep(latency(request.session)).await;
    Session {
        visitor: request.session,
        address: request.client.to_string(),
        cart: vec![request.object],
    }
}

/// Renders what is asked for.
pub(crate) async fn response(request: Request) -> Response {
    tokio::time::sleep(latency(request.object)).await;
    let Request {
        object, endpoint, ..
    } = request;
    Response {
        status: 200,
        content_type: "text/html; charset=utf-8".to_owned(),
        body: format!("<h1>{endpoint} of object {object}</h1>").repeat(16),
    }
}

/// 2 to 5 ms, always the same for the same thing.
fn latency(number: u32) -> Duration {
    millis(2 + u64::from(number % 4))
}
