//! A server in one URL.

use std::net::{IpAddr, Ipv6Addr};

use super::{RedisOptions, Secret};

/// The options in `url`, or what is wrong with it. The complaint quotes nothing: any part of a
/// mistyped URL may be the password.
///
/// Taken apart by hand: a general URL library brings tables for international names that are a
/// seventh of a small program, for a form as plain as this.
pub(super) fn parse_url(url: &str) -> Result<RedisOptions, &'static str> {
    const FORM: &str = "is not of the form redis://[user:password@]host[:port][/database]";

    let (scheme, rest) = url.trim().split_once("://").ok_or(FORM)?;
    match scheme.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => {}
        "rediss" | "valkeys" => return Err("asks for TLS, which this version does not have yet"),
        _ => return Err(FORM),
    }
    if rest.contains(['?', '#']) {
        return Err("has parameters; set them by variables or in code");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, place) = match authority.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, authority),
    };
    let (host, port) = split_port(place).ok_or(FORM)?;
    let port = match port {
        Some(port) => port.parse().map_err(|_| FORM)?,
        None => 6379,
    };
    let mut options = RedisOptions::new(host, port);
    if options.port == 0 {
        return Err("names port 0");
    }
    if let Some(credentials) = credentials {
        let (username, password) = credentials
            .split_once(':')
            .ok_or("names a user without a password")?;
        if !username.is_empty() {
            options.username = Some(percent_decoded(username)?);
        }
        options.password = Some(Secret(percent_decoded(password)?.into()));
    }
    let database = path.strip_suffix('/').unwrap_or(path);
    if !database.is_empty() {
        let number = digits(database).and_then(|database| database.parse::<u16>().ok());
        let number = number.ok_or("ends in something that is not a database number")?;
        options.database = u32::from(number);
    }
    Ok(options)
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(place: &str) -> Option<(&str, Option<&str>)> {
    let (host, rest) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => {
            let end = place.find(':').unwrap_or(place.len());
            let (host, rest) = place.split_at(end);
            is_host(host).then_some((host, rest))?
        }
    };
    match rest {
        "" => Some((host, None)),
        rest => Some((host, Some(digits(rest.strip_prefix(':')?)?))),
    }
}

/// An address, or a name of the characters that names have. Nothing else is taken, since what is
/// taken is shown: part of a URL in the wrong place may be a password.
pub(super) fn is_host(host: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_name = !host.is_empty() && host.bytes().all(is_plain);
    is_name || host.parse::<IpAddr>().is_ok()
}

/// `text` if it is a number without a sign.
fn digits(text: &str) -> Option<&str> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(text)
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
