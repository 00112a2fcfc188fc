//! The first GET over TLS, connecting included: our storage against the client library's own
//! set-up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cache_core::{CacheKey, CacheStorage as _, Condition, NewEntry, Ttl, secs};
use cache_redis::{RedisCacheStorage, RedisOptions, TlsOptions};
use cache_testkit::servers::{Certificates, RedisServer};
use redis::{AsyncCommands as _, TlsCertificates};

use crate::itself::{self, Role};
use crate::measure::{Effort, Result, Target, Verdict, median};
use crate::redis::runtime;

const KEY: &str = "greeting";
const VALUE: &str = "hello";

/// Rounds whose median counts, for one of [`Effort`].
const ROUNDS: usize = 20;

/// How the connection comes about, in the order of the columns of a round.
const SIDES: [&str; 4] = [
    "ours, TLS configuration kept",
    "ours, everything anew",
    "redis, the system's roots",
    "redis, given roots",
];

pub(crate) fn run(effort: Effort) -> Result<Vec<Verdict>> {
    let authority = Certificates::new()?;
    let directory = tempfile::tempdir()?;
    let authority_file = authority.write_authority_to(directory.path())?;
    let server = RedisServer::builder().tls(&authority).start()?;
    let port = server.tls_port().ok_or("the server does not speak TLS")?;
    let (system, roots) = system_roots(&authority, directory.path())?;
    let rounds = (effort.rounds * ROUNDS).to_string();
    let mut command = itself::command(Role::TlsRounds)?;
    command.args([port.to_string(), rounds]).arg(authority_file);
    // A process of its own, because this is how a program learns where the system's roots are.
    command
        .env("SSL_CERT_FILE", system)
        .env_remove("SSL_CERT_DIR");
    let output = itself::output(&mut command)?;
    let rounds: Vec<Vec<f64>> = output.lines().map(numbers).collect::<Result<_>>()?;
    Ok(report(&rounds, roots))
}

/// A file of the system's roots and the test's authority, and how many roots those are.
fn system_roots(authority: &Certificates, directory: &Path) -> Result<(PathBuf, usize)> {
    let known = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    let mut bundle = known
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .ok_or("this system keeps its roots in no file that is known here")?;
    bundle.push_str(authority.authority_pem());
    let path = directory.join("system.pem");
    fs::write(&path, &bundle)?;
    Ok((path, bundle.matches("BEGIN CERTIFICATE").count()))
}

fn numbers(line: &str) -> Result<Vec<f64>> {
    Ok(line
        .split(' ')
        .map(str::parse)
        .collect::<Result<_, std::num::ParseFloatError>>()?)
}

fn report(rounds: &[Vec<f64>], roots: usize) -> Vec<Verdict> {
    let ratio =
        |at: usize, other: usize| median(rounds.iter().map(|round| round[at] / round[other]));
    println!("\nFirst GET over TLS: connect, handshake, GET; one caller, one thread");
    println!("{:<32}{:>10}{:>28}", "", "ms", "time to redis's by default");
    for (at, side) in SIDES.iter().enumerate() {
        let time = median(rounds.iter().map(|round| round[at]));
        println!("{side:<32}{:>10.2}{:>28.3}", time * 1e3, ratio(at, 2));
    }
    println!("kept: a new storage of the same options, whose TLS configuration is made once; its");
    println!("  sessions are resumed. anew: roots read, configuration made, full handshake");
    println!(
        "redis: Client and get_multiplexed_async_connection, with ring. It reads the system's"
    );
    println!("  {roots} roots for each connection, also where it is given others");
    let what = "first GET over TLS, configuration kept: time";
    vec![Verdict::new(what, ratio(0, 2), Target::AtMost(0.5))]
}

/// Measures in a process whose system's roots include the authority of the server, and prints the
/// seconds that each side took in each round.
pub(crate) fn rounds(arguments: &[String]) -> Result {
    let [port, rounds, authority] = arguments else {
        return Err("a port, a number of rounds and a file are missing".into());
    };
    let ring = rustls::crypto::ring::default_provider();
    ring.install_default()
        .map_err(|_| "another provider of cryptography is installed")?;
    let course = Course {
        port: port.parse()?,
        authority: fs::read(authority)?,
        kept: TlsOptions::new().with_roots_file(authority),
    };
    let runtime = runtime(1)?;
    runtime.block_on(course.write())?;
    for round in 0..rounds.parse::<usize>()? {
        let mut times = [Duration::ZERO; SIDES.len()];
        // Another one begins each time, so that a drift of the machine favours nobody.
        for turn in 0..SIDES.len() {
            let at = (round + turn) % SIDES.len();
            times[at] = runtime.block_on(course.first_get(at))?;
        }
        let [a, b, c, d] = times.map(|time| time.as_secs_f64());
        println!("{a} {b} {c} {d}");
    }
    Ok(())
}

/// What all sides share.
struct Course {
    port: u16,
    authority: Vec<u8>,
    kept: TlsOptions,
}

impl Course {
    async fn write(&self) -> Result {
        let storage = RedisCacheStorage::new(self.server(self.kept.clone()))?;
        let entry = NewEntry::new(VALUE, Ttl::FOREVER);
        storage
            .set(&CacheKey::from(KEY), entry, Condition::Always)
            .await?;
        Ok(())
    }

    /// How long it takes one side from nothing to the answer.
    async fn first_get(&self, side: usize) -> Result<Duration> {
        let began = Instant::now();
        let value = match side {
            0 => self.ours(self.kept.clone()).await?,
            1 => {
                self.ours(TlsOptions::new().with_roots_pem(&self.authority))
                    .await?
            }
            2 => Self::theirs(redis::Client::open(self.url())?).await?,
            _ => Self::theirs(self.given_roots()?).await?,
        };
        let took = began.elapsed();
        if value.as_deref() == Some(VALUE.as_bytes()) {
            return Ok(took);
        }
        Err("a value that was written was not found".into())
    }

    async fn ours(&self, tls: TlsOptions) -> Result<Option<Vec<u8>>> {
        let storage = RedisCacheStorage::new(self.server(tls))?;
        let entry = storage.get(&CacheKey::from(KEY)).await?;
        Ok(entry.map(|entry| entry.value.to_vec()))
    }

    async fn theirs(client: redis::Client) -> Result<Option<Vec<u8>>> {
        let mut connection = client.get_multiplexed_async_connection().await?;
        Ok(connection.get(KEY).await?)
    }

    /// The server, with time enough for a machine that is busy.
    fn server(&self, tls: TlsOptions) -> RedisOptions {
        RedisOptions::new("127.0.0.1", self.port)
            .with_tls(tls)
            .with_connect_timeout(secs(5))
            .with_timeout(secs(10))
    }

    fn given_roots(&self) -> Result<redis::Client> {
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(self.authority.clone()),
        };
        Ok(redis::Client::build_with_tls(self.url(), certificates)?)
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }
}
