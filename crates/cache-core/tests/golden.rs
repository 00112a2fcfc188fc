//! The stored form of entries, frozen: each file was made from the format's description, not by
//! this code. A change that fails here breaks every cache in use.

use bytes::Bytes;
use cache_core::{CodecId, Entry, Expiry, NewEntry, Timestamp, Ttl, mins, secs, wire};

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

fn minute(value: &'static [u8]) -> NewEntry {
    NewEntry::new(
        value,
        Ttl::new(secs(60)).expect("a minute is a time to live"),
    )
}

#[track_caller]
fn check(golden: &'static [u8], written: NewEntry, read: &Entry) {
    assert_eq!(
        wire::encode(written, || NOW),
        golden,
        "encoding has changed"
    );
    let decoded = wire::decode(Bytes::from_static(golden)).expect("the file is an entry");
    assert_eq!(&decoded, read, "decoding has changed");
}

fn expiring(value: &'static [u8]) -> Entry {
    Entry::new(value, Expiry::At(NOW.after(secs(60))))
}

#[test]
fn plain_json() {
    let value = br#"{"user":"alice","roles":["admin"]}"#;
    check(
        include_bytes!("golden/plain_json.bin"),
        minute(value),
        &Entry::new(&value[..], Expiry::AtServer),
    );
}

#[test]
fn plain_counter() {
    check(
        include_bytes!("golden/plain_counter.bin"),
        minute(b"-42"),
        &Entry::new(&b"-42"[..], Expiry::AtServer),
    );
}

#[test]
fn stale_budget_and_creation_time() {
    let value = br#"{"user":"alice"}"#;
    let written = minute(value)
        .with_stale_for(mins(5))
        .unwrap()
        .with_created_at(NOW);
    let read = expiring(value)
        .with_stale_until(Expiry::At(NOW.after(mins(6))))
        .with_created_at(Some(NOW));
    check(include_bytes!("golden/v1_stale_json.bin"), written, &read);
}

#[test]
fn binary_codecs() {
    for (golden, codec) in [
        (
            &include_bytes!("golden/v1_postcard.bin")[..],
            CodecId::Postcard,
        ),
        (
            &include_bytes!("golden/v1_bincode.bin")[..],
            CodecId::Bincode,
        ),
    ] {
        let written = minute(b"\x05alice").with_codec(codec);
        check(
            golden,
            written,
            &expiring(b"\x05alice").with_codec(Some(codec)),
        );
    }
}

#[test]
fn absence_is_never_fresh() {
    let written = NewEntry::stale(&b""[..], secs(30)).unwrap();
    let read = Entry::new(&b""[..], Expiry::At(NOW))
        .with_stale_until(Expiry::At(NOW.after(secs(30))))
        .with_codec(Some(CodecId::Absent));
    check(
        include_bytes!("golden/v1_absent.bin"),
        written.with_codec(CodecId::Absent),
        &read,
    );
}

#[test]
fn raw_for_ever() {
    check(
        include_bytes!("golden/v1_raw_forever.bin"),
        NewEntry::new(&b"\x00\x01\xFF"[..], Ttl::FOREVER).with_codec(CodecId::Raw),
        &Entry::new(&b"\x00\x01\xFF"[..], Expiry::Never).with_codec(Some(CodecId::Raw)),
    );
}

#[test]
fn value_that_looks_like_a_header() {
    let value = b"\xFF\xCAanything";
    check(
        include_bytes!("golden/v1_looks_like_a_header.bin"),
        minute(value),
        &expiring(value),
    );
}
