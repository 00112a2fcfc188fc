//! What is asked of the server.

use cache_core::{CacheKey, CacheStorage};
use serde_json::Value;

use super::model::body;
use super::stub::{Stub, TABLE};
use crate::support::{fetch, storage};

#[tokio::test]
async fn reads_are_consistent_where_the_options_say_so() {
    for is_consistent in [false, true] {
        let stub = Stub::start(|request, model| model.answer(request));
        let storage = storage(stub.options().with_consistent_reads(is_consistent));
        let key = CacheKey::from("k");
        fetch(&storage, "k").await.unwrap();
        storage.lookup(&key).await.unwrap();
        storage.has(&key).await.unwrap();
        storage.get_ttl(&key).await.unwrap();
        for read in storage.get_many(&[key.clone(), "l".into()]).await {
            read.unwrap();
        }
        for read in storage.lookup_many(&[key]).await {
            read.unwrap();
        }
        let asked: Vec<_> = stub
            .requests()
            .iter()
            .map(|request| {
                let body = body(request);
                let asked = body
                    .pointer(&format!("/RequestItems/{TABLE}"))
                    .unwrap_or(&body);
                asked["ConsistentRead"].as_bool().unwrap_or_default()
            })
            .collect();
        assert_eq!(asked, [is_consistent; 6]);
    }
}

#[tokio::test]
async fn requests_are_signed_and_name_table_and_operation() {
    let stub = Stub::start(|request, model| model.answer(request));
    fetch(&stub.storage(), "k").await.unwrap();
    let request = stub.requests().remove(0);
    assert_eq!(request.target(), "DynamoDB_20120810.GetItem");
    assert_eq!(body(&request)["TableName"], Value::from(TABLE));
    let signature = request.header("authorization").unwrap();
    assert!(
        signature.contains("/eu-west-1/dynamodb/aws4_request"),
        "{signature}"
    );
    assert!(
        !format!("{request:?}").contains("hunter"),
        "the secret stays here"
    );
}
