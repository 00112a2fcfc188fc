//! Real traffic: the `web12` trace, and the request each access stands for.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;

/// The requests of the trace, compressed as they were published; see `tests/data/README.md`.
const WEB12: &[u8] = include_bytes!("../data/web12.trace.xz");

/// How many bits of an access are the object's number; the others are its type.
const NUMBER_BITS: u32 = 27;

const SESSIONS: u64 = 4096;
const CLIENTS: u64 = 1024;

/// A recorded sequence of accesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    objects: Vec<u32>,
}

impl Trace {
    /// The accesses to the product pages of a shop: 95,607 of them to 13,756 objects.
    #[must_use]
    pub fn web12() -> Self {
        Self::read(WEB12).expect("the trace compiled in is complete")
    }

    /// Reads a trace: xz, and inside one 32-bit big-endian integer an access.
    ///
    /// # Errors
    ///
    /// `InvalidData` where it is not xz, is cut short, or has a number that is cut short.
    pub fn read(compressed: &[u8]) -> io::Result<Self> {
        let mut bytes = Vec::new();
        lzma_rs::xz_decompress(&mut &*compressed, &mut bytes)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("{error:?}")))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the last number is cut short",
            ));
        }
        let objects = numbers
            .iter()
            .map(|number| u32::from_be_bytes(*number) & ((1 << NUMBER_BITS) - 1))
            .collect();
        Ok(Self { objects })
    }

    /// The number of the object of each access, in order.
    #[must_use]
    pub fn objects(&self) -> &[u32] {
        &self.objects
    }

    /// The request that each access stands for, in order.
    pub fn requests(&self) -> impl Iterator<Item = Request> {
        self.objects.iter().copied().map(Request::of)
    }
}

/// What a request asks for, and who asks.
///
/// The trace knows only the object. The rest is made up from the object's number, always alike:
/// a hash of the number picks one of 4,096 sessions, a hash of the session one of 1,024 client
/// addresses, and another hash of the number one of four endpoints. So a session always comes from
/// one address, and what is popular in the trace makes its session and address busy ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The object asked for.
    pub object: u32,
    /// The session of the visitor.
    pub session: u32,
    /// The address of the visitor, in 10.0.0.0/8.
    pub client: Ipv4Addr,
    /// What the visitor wants to know about the object.
    pub endpoint: Endpoint,
}

/// What a visitor wants to know about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the path of the same name")]
pub enum Endpoint {
    Product,
    Reviews,
    Stock,
    Related,
}

impl Request {
    /// The request for the object of this number.
    #[must_use]
    pub fn of(object: u32) -> Self {
        let session = pick(u64::from(object), 1, SESSIONS);
        let [_, _, high, low] = pick(u64::from(session), 2, CLIENTS).to_be_bytes();
        let endpoint = match pick(u64::from(object), 3, 4) {
            0 => Endpoint::Product,
            1 => Endpoint::Reviews,
            2 => Endpoint::Stock,
            _ => Endpoint::Related,
        };
        Self {
            object,
            session,
            client: Ipv4Addr::new(10, 0, high, low),
            endpoint,
        }
    }
}

impl Endpoint {
    /// The endpoint in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Reviews => "reviews",
            Self::Stock => "stock",
            Self::Related => "related",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One of `count`, by the finaliser of `SplitMix64` over `value` and a number for each purpose.
fn pick(value: u64, purpose: u64, count: u64) -> u32 {
    let mut hash = value.wrapping_add(purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^= hash >> 31;
    u32::try_from(hash % count).expect("the counts above fit 32 bits")
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn web12_is_what_its_readme_says() {
        let trace = Trace::web12();
        let distinct: HashSet<_> = trace.objects().iter().collect();
        assert_eq!(trace.objects().len(), 95_607);
        assert_eq!(distinct.len(), 13_756);
        assert_eq!(trace.objects()[..5], [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for bytes in [
            &b""[..],
            b"not xz",
            &WEB12[..1000],
            &WEB12[..WEB12.len() - 20],
        ] {
            let error = Trace::read(bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_request_is_always_the_same() {
        assert_eq!(Request::of(0), Request::of(0));
        let Request {
            object,
            session,
            client,
            endpoint,
        } = Request::of(282);
        assert_eq!(
            (
                object,
                session,
                client.to_string().as_str(),
                endpoint.as_str()
            ),
            (282, 4061, "10.0.0.141", "product")
        );
    }

    #[test]
    fn sessions_addresses_and_endpoints_are_spread() {
        let mut clients = HashMap::new();
        let mut endpoints = HashMap::<_, usize>::new();
        for request in Trace::web12().requests() {
            let client = clients.entry(request.session).or_insert(request.client);
            assert_eq!(*client, request.client, "a session has one address");
            *endpoints.entry(request.endpoint.as_str()).or_default() += 1;
        }
        assert!(clients.len() > 3_800, "{} sessions", clients.len());
        let addresses: HashSet<_> = clients.values().collect();
        assert!(addresses.len() > 950, "{} addresses", addresses.len());
        assert_eq!(endpoints.len(), 4);
        assert!(
            endpoints.values().all(|count| *count > 15_000),
            "{endpoints:?}"
        );
    }
}
