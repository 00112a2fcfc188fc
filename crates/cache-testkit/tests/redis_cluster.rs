//! The cluster against the real program.

use std::io;

use cache_testkit::servers::{Certificates, RedisCluster};

/// The slot of every key with the hash tag `{a}`.
const SLOT_OF_A: u16 = 15_495;

#[test]
fn three_primaries_share_the_slots() {
    let cluster = RedisCluster::builder().replicas(0).start().unwrap();
    assert_eq!(cluster.nodes().len(), 3);
    assert_eq!(cluster.primaries().unwrap(), [0, 1, 2]);
    let owners = [0, 5_460, 5_461, 10_921, 10_922, 16_383].map(|slot| cluster.primary_of(slot));
    assert_eq!(owners.map(Result::unwrap), [0, 0, 1, 1, 2, 2]);
    assert_eq!(cluster.url(), cluster.node(0).url(0));
    assert_eq!(cluster.addresses()[2], cluster.node(2).address());
    let owner = cluster.primary_of(SLOT_OF_A).unwrap();
    for place in 0..3 {
        let outcome = cluster.node(place).command(&["SET", "{a}", "v"]);
        assert_eq!(outcome.is_ok(), place == owner, "{outcome:?}");
    }
}

#[test]
fn slots_move_with_their_keys() {
    let cluster = RedisCluster::start().unwrap();
    let (from, to) = (2, 0);
    for number in 0..250 {
        let key = format!("{{a}}:{number}\nkey");
        cluster.node(from).command(&["SET", &key, "v"]).unwrap();
    }
    let slots = SLOT_OF_A - 5..SLOT_OF_A + 5;
    cluster.move_slots(slots.clone(), from, to).unwrap();
    for slot in slots {
        assert_eq!(cluster.primary_of(slot).unwrap(), to);
    }
    assert_eq!(cluster.node(to).command(&["DBSIZE"]).unwrap(), "250");
    assert_eq!(cluster.node(from).command(&["DBSIZE"]).unwrap(), "0");
    let moved = cluster.node(from).command(&["GET", "{a}"]).unwrap_err();
    let address = cluster.node(to).address();
    assert_eq!(moved.to_string(), format!("MOVED {SLOT_OF_A} {address}"));
    cluster.wait_until_ok().unwrap();

    cluster.begin_move(SLOT_OF_A, to, 1).unwrap();
    let ask = cluster.node(to).command(&["GET", "{a}:none"]).unwrap_err();
    assert!(ask.to_string().starts_with("ASK 15495 "), "{ask}");
    cluster.move_keys(SLOT_OF_A, to, 1).unwrap();
    cluster.end_move(SLOT_OF_A, to, 1).unwrap();
    assert_eq!(cluster.primary_of(SLOT_OF_A).unwrap(), 1);
}

#[test]
fn a_replica_takes_over() {
    let mut cluster = RedisCluster::start().unwrap();
    let old = cluster.primary_of(SLOT_OF_A).unwrap();
    let set = ["SET", "{a}", "v"];
    assert_eq!(cluster.node(old).command(&set).unwrap(), "OK");
    cluster.node(old).command(&["WAIT", "1", "5000"]).unwrap();
    cluster.kill(old).unwrap();
    let new = cluster.wait_for_promotion(SLOT_OF_A, old).unwrap();
    assert_eq!(new, old + 3);
    cluster.wait_until_ok().unwrap();
    assert_eq!(cluster.node(new).command(&["GET", "{a}"]).unwrap(), "v");
    cluster.restart(old).unwrap();
    cluster.wait_until_ok().unwrap();
    assert_eq!(cluster.primary_of(SLOT_OF_A).unwrap(), new);
    let role = cluster.node(old).command(&["ROLE"]).unwrap();
    assert!(role.starts_with("slave"), "{role}");

    cluster.node(new).pause().unwrap();
    let newest = cluster.wait_for_promotion(SLOT_OF_A, new).unwrap();
    assert_eq!(newest, old);
    cluster.node(new).resume().unwrap();
    cluster.wait_until_ok().unwrap();
    assert_eq!(cluster.url(), cluster.node(0).url(0));
}

#[test]
fn a_cluster_with_tls_and_a_password() {
    let authority = Certificates::new().unwrap();
    let cluster = RedisCluster::builder()
        .primaries(2)
        .password("pass")
        .tls(&authority)
        .start()
        .unwrap();
    let from = cluster.primary_of(SLOT_OF_A).unwrap();
    let set = ["SET", "{a}", "v"];
    assert_eq!(cluster.node(from).command(&set).unwrap(), "OK");
    cluster.move_slots([SLOT_OF_A], from, 0).unwrap();
    assert_eq!(cluster.node(0).command(&["GET", "{a}"]).unwrap(), "v");
    let port = cluster.node(0).tls_port().unwrap();
    assert_eq!(cluster.url(), format!("rediss://:pass@127.0.0.1:{port}/0"));
    assert_eq!(cluster.addresses()[0], format!("127.0.0.1:{port}"));
    assert!(!format!("{cluster:?}").contains("pass"));
}

#[test]
fn nobody_takes_over_where_there_is_no_primary() {
    let error = RedisCluster::builder().primaries(0).start().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
