//! From environment variables to the encryption of connections.

use cache_core::ConfigurationError;
use cache_core::settings::{Setting, Settings};

use super::TlsOptions;
use super::environment::{Place, contradiction};
use super::settings::{
    TLS, TLS_CERTIFICATE_FILE, TLS_KEY_FILE, TLS_ROOTS, TLS_ROOTS_FILE, TLS_SERVER_NAME, URL,
};

/// Settings that say more about TLS, and so mean that it is wanted.
const TLS_DETAILS: [&Setting; 5] = [
    &TLS_ROOTS,
    &TLS_ROOTS_FILE,
    &TLS_CERTIFICATE_FILE,
    &TLS_KEY_FILE,
    &TLS_SERVER_NAME,
];

/// Whether and how connections are encrypted, given what the URL says.
pub(super) fn tls(
    is_encrypted_by_url: bool,
    place: Place,
    settings: &Settings,
    problems: &mut Vec<ConfigurationError>,
) -> Option<TlsOptions> {
    let mut is_encrypted = is_encrypted_by_url;
    if place.has(settings, &TLS) {
        let what = "a choice; expected true or false";
        let wanted = settings.read(&TLS, what, problems, |text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        });
        if place.is_url && wanted.is_some_and(|wanted| wanted != is_encrypted_by_url) {
            problems.push(contradiction(settings, &URL, &TLS));
        }
        is_encrypted |= wanted == Some(true);
    }
    if is_encrypted {
        return Some(tls_details(settings, problems));
    }
    // Details of the common server mean nothing for a named cache's own one. Others would be lost.
    let is_lost = |detail: &&Setting| {
        settings
            .find(detail)
            .is_some_and(|found| found.scoped || !place.is_scoped)
    };
    if let Some(detail) = TLS_DETAILS.into_iter().find(is_lost) {
        let variable = settings.variable(detail);
        let problem = format!(
            "{variable} is set without TLS; use rediss:// or {}=true",
            TLS.name
        );
        problems.push(ConfigurationError::new(variable, problem));
    }
    None
}

fn tls_details(settings: &Settings, problems: &mut Vec<ConfigurationError>) -> TlsOptions {
    let mut tls = TlsOptions::new();
    let what = "a choice; expected embedded or system";
    let system = settings.read(&TLS_ROOTS, what, problems, |text| match text {
        "embedded" => Some(false),
        "system" => Some(true),
        _ => None,
    });
    let is_own = |setting| settings.find(setting).is_some_and(|found| found.scoped);
    let (choice_is_own, file_is_own) = (is_own(&TLS_ROOTS), is_own(&TLS_ROOTS_FILE));
    match (system, settings.find(&TLS_ROOTS_FILE)) {
        (Some(_), Some(_)) if choice_is_own == file_is_own => {
            problems.push(contradiction(settings, &TLS_ROOTS, &TLS_ROOTS_FILE));
        }
        // A named cache's own choice goes before the common file, and its own file before that.
        (_, Some(file)) if !choice_is_own => tls = tls.with_roots_file(file.value),
        (Some(true), _) => tls = tls.with_system_roots(),
        _ => {}
    }
    match (
        settings.find(&TLS_CERTIFICATE_FILE),
        settings.find(&TLS_KEY_FILE),
    ) {
        (Some(chain), Some(key)) => {
            tls = tls.with_client_certificate_files(chain.value, key.value);
        }
        (Some(_), None) => problems.push(lonely(settings, &TLS_CERTIFICATE_FILE, &TLS_KEY_FILE)),
        (None, Some(_)) => problems.push(lonely(settings, &TLS_KEY_FILE, &TLS_CERTIFICATE_FILE)),
        (None, None) => {}
    }
    match settings.find(&TLS_SERVER_NAME) {
        Some(name) => tls.with_server_name(name.value),
        None => tls,
    }
}

fn lonely(settings: &Settings, set: &Setting, missing: &Setting) -> ConfigurationError {
    let variable = settings.variable(set);
    let problem = format!("{variable} is set without {}", missing.name);
    ConfigurationError::new(variable, problem)
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use crate::RedisOptions;

    const HOST_ONLY: (&str, &str) = ("CACHE_REDIS_HOST", "host");

    fn read(pairs: &[(&str, &str)]) -> (RedisOptions, Vec<String>) {
        read_settings(&Settings::from_pairs(pairs.iter().copied()))
    }

    fn read_settings(settings: &Settings) -> (RedisOptions, Vec<String>) {
        let mut problems = Vec::new();
        let options = RedisOptions::from_settings(settings, &mut problems);
        (options, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn encryption_is_wanted_by_name() {
        let (options, problems) = read(&[HOST_ONLY, ("CACHE_REDIS_TLS", "true")]);
        assert!(options.tls.is_some() && problems.is_empty(), "{problems:?}");
        let (options, problems) = read(&[
            ("CACHE_REDIS_URL", "rediss://host"),
            ("CACHE_REDIS_TLS_ROOTS", "system"),
            ("CACHE_REDIS_TLS_SERVER_NAME", "cache.example"),
        ]);
        assert!(options.tls.is_some() && problems.is_empty(), "{problems:?}");
        for (pairs, expected) in [
            (
                [
                    ("CACHE_REDIS_URL", "rediss://host"),
                    ("CACHE_REDIS_TLS", "false"),
                ],
                "CACHE_REDIS_URL and CACHE_REDIS_TLS contradict each other; set one of them",
            ),
            (
                [
                    ("CACHE_REDIS_URL", "redis://host"),
                    ("CACHE_REDIS_TLS", "true"),
                ],
                "CACHE_REDIS_URL and CACHE_REDIS_TLS contradict each other; set one of them",
            ),
            (
                [HOST_ONLY, ("CACHE_REDIS_TLS_ROOTS", "system")],
                "CACHE_REDIS_TLS_ROOTS is set without TLS; use rediss:// or CACHE_REDIS_TLS=true",
            ),
            (
                [
                    ("CACHE_REDIS_URL", "rediss://host"),
                    ("CACHE_REDIS_TLS_KEY_FILE", "/k"),
                ],
                "CACHE_REDIS_TLS_KEY_FILE is set without CACHE_REDIS_TLS_CERTIFICATE_FILE",
            ),
            (
                [
                    ("CACHE_REDIS_URL", "rediss://host"),
                    ("CACHE_REDIS_TLS_ROOTS", "own"),
                ],
                "CACHE_REDIS_TLS_ROOTS=\"own\" is not a choice; expected embedded or system",
            ),
        ] {
            assert_eq!(read(&pairs).1, [expected]);
        }
    }

    #[test]
    fn a_named_cache_shares_the_common_roots() {
        let settings = Settings::from_pairs([
            ("CACHE_REDIS_URL", "rediss://common"),
            ("CACHE_REDIS_TLS_ROOTS_FILE", "/common.pem"),
            ("CACHE_GEO_REDIS_URL", "rediss://geo"),
        ]);
        let (options, problems) = read_settings(&settings.named("geo").unwrap());
        assert_eq!(problems, [""; 0]);
        assert!(format!("{options:?}").contains("/common.pem"));
    }

    #[test]
    fn a_named_caches_own_roots_win() {
        let common = [
            ("CACHE_REDIS_URL", "rediss://common"),
            ("CACHE_REDIS_TLS_ROOTS_FILE", "/common.pem"),
            ("CACHE_GEO_REDIS_TLS_ROOTS", "embedded"),
        ];
        let settings = Settings::from_pairs(common);
        let (options, problems) = read_settings(&settings.named("geo").unwrap());
        assert_eq!(problems, [""; 0]);
        assert!(!format!("{options:?}").contains("/common.pem"));

        let settings = Settings::from_pairs([
            ("CACHE_REDIS_URL", "rediss://common"),
            ("CACHE_REDIS_TLS_ROOTS", "system"),
            ("CACHE_GEO_REDIS_TLS_ROOTS_FILE", "/geo.pem"),
        ]);
        let (options, problems) = read_settings(&settings.named("geo").unwrap());
        assert_eq!(problems, [""; 0]);
        assert!(format!("{options:?}").contains("/geo.pem"));
    }
}
