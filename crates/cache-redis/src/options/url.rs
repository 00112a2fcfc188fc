//! A server in one URL.

use cache_core::Topology;

use super::{RedisOptions, TlsOptions};
use crate::address::{Address, digits};

/// Where Redis listens unless told otherwise.
const PORT: u16 = 6379;

/// The options in `url`, or what is wrong with it. The complaint quotes nothing: any part of a
/// mistyped URL may be the password.
///
/// A user without a password is taken here: the password may come from elsewhere.
///
/// Taken apart by hand: a general URL library brings tables for international names that are a
/// seventh of a small program, for a form as plain as this.
pub(super) fn parse_url(url: &str) -> Result<RedisOptions, &'static str> {
    const FORM: &str = "is not of the form redis[s]://[user:password@]host[:port][/database]";

    let (scheme, rest) = url.trim().split_once("://").ok_or(FORM)?;
    let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return Err(FORM),
    };
    if rest.contains(['?', '#']) {
        return Err("has parameters; set them by variables or in code");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, place) = match authority.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, authority),
    };
    let mut places = place.split(',');
    let first = places.next().and_then(|place| Address::parse(place, PORT));
    let Address { host, port } = first.ok_or(FORM)?;
    let mut options = RedisOptions::new(host, port);
    options.tls = is_encrypted.then(TlsOptions::new);
    for place in places {
        options
            .more_seeds
            .push(Address::parse(place, PORT).ok_or(FORM)?);
        options.topology = Topology::Cluster;
    }
    if options.port == 0 || options.more_seeds.iter().any(|seed| seed.port == 0) {
        return Err("names port 0");
    }
    if let Some(credentials) = credentials {
        let (username, password) = match credentials.split_once(':') {
            Some((username, password)) => (username, Some(password)),
            None => (credentials, None),
        };
        if !username.is_empty() {
            options.username = Some(percent_decoded(username)?);
        }
        if let Some(password) = password {
            options = options.with_password(percent_decoded(password)?);
        }
    }
    let database = path.strip_suffix('/').unwrap_or(path);
    if !database.is_empty() {
        let number = digits(database).and_then(|database| database.parse::<u16>().ok());
        let number = number.ok_or("ends in something that is not a database number")?;
        options.database = u32::from(number);
    }
    Ok(options)
}

fn percent_decoded(text: &str) -> Result<String, &'static str> {
    const BROKEN: &str = "has broken percent-encoding in its user or password";

    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).ok_or(BROKEN)?;
        let digits = std::str::from_utf8(digits).map_err(|_| BROKEN)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| BROKEN)?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| BROKEN)
}
