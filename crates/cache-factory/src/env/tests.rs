//! What variables come to.

use super::*;

fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
    of(&Settings::from_pairs(pairs.iter().copied()))
}

fn of(settings: &Settings) -> Vec<String> {
    let Err(errors) = plan(settings) else {
        return Vec::new();
    };
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_storage_must_be_named() {
    let sentence = "CACHE_STORAGE_TYPE is not set; expected memory, redis or dynamodb";
    assert_eq!(problems(&[]), [sentence]);
    assert_eq!(problems(&[("CACHE_STORAGE_TYPE", "  ")]), [sentence]);
}

#[test]
fn a_misspelt_storage_is_corrected() {
    for (text, meant) in [
        ("redsi", "redis"),
        ("Memory", "memory"),
        ("noen", "none"),
        ("valkey", "redis"),
        ("off", "none"),
    ] {
        assert_eq!(
            problems(&[("CACHE_STORAGE_TYPE", text)]),
            [format!(
                "CACHE_STORAGE_TYPE={text:?} is not a storage; did you mean {meant}?"
            )]
        );
    }
}

#[test]
fn a_storage_like_no_other_is_told_what_there_is() {
    assert_eq!(
        problems(&[("CACHE_STORAGE_TYPE", "memcached")]),
        ["CACHE_STORAGE_TYPE=\"memcached\" is not a storage; \
             expected memory, redis or dynamodb"]
    );
}

#[cfg(not(feature = "dynamodb"))]
#[test]
fn dynamodb_outside_this_build_is_named_with_its_feature() {
    let available = COMPILED_IN.join(", ");
    let available = if available.is_empty() {
        "none"
    } else {
        &available
    };
    assert_eq!(
        problems(&[("CACHE_STORAGE_TYPE", "dynamodb")]),
        [format!(
            "CACHE_STORAGE_TYPE=dynamodb needs the Cargo feature \"dynamodb\", \
             this build has: {available}"
        )]
    );
}

#[cfg(feature = "dynamodb")]
#[test]
fn dynamodb_needs_a_table_and_a_region() {
    let found = problems(&[
        ("CACHE_STORAGE_TYPE", "dynamodb"),
        ("CACHE_DYNAMODB_TIMEOUT", "5 parsecs"),
        ("CACHE_DYNAMODB_TABEL", "cache"),
    ]);
    let expected = [
        "CACHE_DYNAMODB_TABLE is not set",
        "CACHE_DYNAMODB_TIMEOUT=\"5 parsecs\" is not a duration; try 500ms, 2s",
        "CACHE_DYNAMODB_TABEL is not a setting; did you mean CACHE_DYNAMODB_TABLE?",
    ];
    for beginning in expected {
        let is_there = found.iter().any(|problem| problem.starts_with(beginning));
        assert!(is_there, "{beginning} in {found:?}");
    }
}

#[cfg(all(feature = "memory", not(any(feature = "redis", feature = "dynamodb"))))]
#[test]
fn a_backend_outside_this_build_is_named_with_its_feature() {
    assert_eq!(
        problems(&[("CACHE_STORAGE_TYPE", "redis")]),
        [
            "CACHE_STORAGE_TYPE=redis needs the Cargo feature \"redis\", \
             this build has: memory"
        ]
    );
}

#[cfg(all(feature = "redis", not(any(feature = "memory", feature = "dynamodb"))))]
#[test]
fn memory_outside_this_build_is_named_with_its_feature() {
    assert_eq!(
        problems(&[("CACHE_STORAGE_TYPE", "memory")]),
        [
            "CACHE_STORAGE_TYPE=memory needs the Cargo feature \"memory\", \
             this build has: redis"
        ]
    );
}

#[cfg(feature = "redis")]
#[test]
fn a_bad_duration_is_named_with_examples() {
    assert_eq!(
        problems(&[
            ("CACHE_STORAGE_TYPE", "redis"),
            ("CACHE_REDIS_URL", "redis://localhost"),
            ("CACHE_REDIS_TIMEOUT", "5 parsecs"),
        ]),
        ["CACHE_REDIS_TIMEOUT=\"5 parsecs\" is not a duration; try 500ms, 2s"]
    );
}

#[cfg(feature = "memory")]
#[test]
fn fallbacks_are_checked() {
    let fallback = |name, value| problems(&[("CACHE_STORAGE_TYPE", "memory"), (name, value)]);
    assert_eq!(fallback("CACHE_FALLBACK", "none"), [""; 0]);
    assert_eq!(
        fallback("CACHE_FALLBACK", "memory"),
        ["CACHE_FALLBACK=\"memory\" is the storage itself; name another, or none"]
    );
    assert_eq!(
        fallback("CACHE_FALLBACK", "redsi"),
        ["CACHE_FALLBACK=\"redsi\" is not a storage; did you mean redis?"]
    );
    assert_eq!(
        fallback("CACHE_FALLBACK_TTL", "2h"),
        ["CACHE_FALLBACK_TTL=\"2h\" is not between 1ms and 1h"]
    );
    assert_eq!(
        fallback("CACHE_FALLBACK_JOURNAL", "0"),
        ["CACHE_FALLBACK_JOURNAL=\"0\" is not a whole number from 1 to 10000000"]
    );
    assert_eq!(
        fallback("CACHE_FALLBACK_WRITE_ALL", "yes"),
        ["CACHE_FALLBACK_WRITE_ALL=\"yes\" is not true or false"]
    );
}

#[cfg(feature = "redis")]
#[test]
fn a_breaker_is_on_or_off() {
    let breaker = |name, value| {
        problems(&[
            ("CACHE_STORAGE_TYPE", "redis"),
            ("CACHE_REDIS_URL", "redis://localhost"),
            (name, value),
        ])
    };
    assert_eq!(breaker("CACHE_BREAKER", "off"), [""; 0]);
    assert_eq!(
        breaker("CACHE_BREAKER", "onn"),
        ["CACHE_BREAKER=\"onn\" is not a switch; did you mean on?"]
    );
    assert_eq!(breaker("CACHE_BREAKER_OPEN_FOR", "0s").len(), 1);
}

#[test]
fn policies_are_checked() {
    let policy = |text| problems(&[("CACHE_STORAGE_TYPE", "none"), ("CACHE_ON_TROUBLE", text)]);
    assert_eq!(policy("error"), policy("miss"));
    assert_eq!(
        policy("mis"),
        ["CACHE_ON_TROUBLE=\"mis\" is not a policy; did you mean miss?"]
    );
    assert_eq!(
        policy("ignore"),
        ["CACHE_ON_TROUBLE=\"ignore\" is not a policy; expected error or miss"]
    );
}

#[test]
fn a_prefix_keeps_the_rules_of_keys() {
    let prefix = |text| problems(&[("CACHE_STORAGE_TYPE", "none"), ("CACHE_PREFIX", text)]);
    assert!(prefix("shop:eu").is_empty());
    assert_eq!(
        prefix("a\nb"),
        ["CACHE_PREFIX=\"a\\nb\" is not a prefix; it contains a control character"]
    );
    assert_eq!(prefix(&"p".repeat(1024)).len(), 1);
}

#[test]
fn all_problems_come_at_once() {
    let found = problems(&[
        ("CACHE_STORAGE_TYPE", "redsi"),
        ("CACHE_ON_TROUBLE", "ignore"),
        ("CACHE_PREFIX", "a\tb"),
        ("CACHE_STORAGE_TYP", "redis"),
    ]);
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn a_misspelt_variable_is_corrected() {
    assert_eq!(
        problems(&[("CACHE_STORAGE_TYPE", "none"), ("CACHE_ON_TROUBEL", "miss")]),
        ["CACHE_ON_TROUBEL is not a setting; did you mean CACHE_ON_TROUBLE?"]
    );
}

#[test]
fn settings_of_other_backends_are_neither_needed_nor_unknown() {
    let pairs = [
        ("CACHE_STORAGE_TYPE", "none"),
        ("CACHE_REDIS_URL", "redis://localhost"),
        ("CACHE_GEO_REDIS_URL", "redis://localhost"),
        ("CACHE_DYNAMODB_TABLE", "cache"),
        ("CACHE_GEO_DYNAMODB_TABLE", "cache"),
        ("CACHE_DIR", "/tmp"),
    ];
    assert_eq!(problems(&pairs), [""; 0]);
    let geo = Settings::from_pairs(pairs).named("geo").unwrap();
    assert_eq!(of(&geo), [""; 0]);
}

#[test]
fn a_named_cache_is_told_its_own_variables() {
    let geo = Settings::from_pairs([
        ("CACHE_STORAGE_TYPE", "none"),
        ("CACHE_GEO_STORAGE_TYPE", "redsi"),
        ("CACHE_GEO_ON_TROUBLE", "mis"),
        ("CACHE_ON_TROUBLE", "error"),
    ])
    .named("GEO")
    .unwrap();
    assert_eq!(
        of(&geo),
        [
            "CACHE_GEO_STORAGE_TYPE=\"redsi\" is not a storage; did you mean redis?",
            "CACHE_GEO_ON_TROUBLE=\"mis\" is not a policy; did you mean miss?",
        ]
    );
}

#[test]
fn every_setting_is_described_once() {
    let settings = all_settings();
    for (position, setting) in settings.iter().enumerate() {
        assert!(setting.name.starts_with("CACHE_"), "{setting:?}");
        assert!(!setting.meaning.is_empty(), "{setting:?}");
        let again = settings[position + 1..]
            .iter()
            .any(|other| other.name == setting.name);
        assert!(!again, "{setting:?}");
    }
}
