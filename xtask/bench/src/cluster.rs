//! Our service on a Redis Cluster against the cluster connection of the client library.

use std::sync::Arc;

use cache_core::Topology;
use cache_redis::RedisOptions;
use cache_testkit::servers::RedisCluster;
use futures_util::future::try_join_all;
use redis::AsyncCommands as _;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use tokio::runtime::Runtime;

use crate::measure::{Contestant, Effort, Result, Side, Target, Verdict, race};
use crate::redis::runtime;
use crate::sides::{Ours, TTL_SECONDS, decoded, found};
use crate::visitors::{Job, Visitors};

const CALLERS: [usize; 2] = [1, 8];

/// The client library's own connection to a cluster, as it comes, with the same codec work.
#[derive(Clone)]
struct Bare {
    connection: ClusterConnection,
    visitors: Arc<Visitors>,
}

impl Side for Bare {
    type Job = Job;

    async fn run(&mut self, job: Job, number: usize) -> Result {
        let Self {
            connection,
            visitors,
        } = self;
        let batch = Visitors::batch(number);
        match job {
            Job::Get => {
                let stored: Option<Vec<u8>> = connection.get(visitors.key(number)).await?;
                found(decoded(stored)?)
            }
            Job::Set => set(connection.clone(), visitors, number).await,
            // The library parts the keys by slot.
            Job::GetMany => {
                let stored: Vec<Option<Vec<u8>>> = connection.mget(&visitors.keys[batch]).await?;
                let sessions: Vec<_> = stored.into_iter().map(decoded).collect::<Result<_>>()?;
                sessions.into_iter().try_for_each(found)
            }
            // The library refuses a pipeline over several slots.
            Job::SetMany => {
                let sets = batch.map(|number| set(connection.clone(), visitors, number));
                try_join_all(sets).await.map(drop)
            }
        }
    }
}

async fn set(mut connection: ClusterConnection, visitors: &Visitors, number: usize) -> Result {
    let bytes = serde_json::to_vec(visitors.session(number))?;
    let key = visitors.key(number);
    Ok(connection.set_ex(key, bytes, TTL_SECONDS).await?)
}

pub(crate) fn run(effort: Effort) -> Result<Vec<Verdict>> {
    let cluster = RedisCluster::builder().replicas(0).start()?;
    println!(
        "\nRedis Cluster of {} primaries: our service against the client library's \
         ClusterConnection",
        cluster.nodes().len()
    );
    println!(
        "{:<13}{:>8}{:>8}{:>9}{:>9}{:>7}{:>9}{:>9}{:>7}",
        "operation",
        "threads",
        "callers",
        "ours/s",
        "bare/s",
        "ratio",
        "ours µs",
        "bare µs",
        "ratio"
    );
    let mut verdicts = Vec::new();
    for threads in [1, 2] {
        verdicts.extend(table(threads, &cluster, effort)?);
    }
    println!("µs: CPU time of this process for one operation");
    println!("bare: MGET, which the library parts by slot; 100 SETs at a time for set_many");
    Ok(verdicts)
}

fn table(threads: usize, cluster: &RedisCluster, effort: Effort) -> Result<Vec<Verdict>> {
    let visitors = Visitors::new();
    let runtime = runtime(threads)?;
    let entry = RedisOptions::new("127.0.0.1", cluster.node(0).port());
    let ours = Ours::at(entry.with_topology(Topology::Cluster), &visitors)?;
    let connecting = async {
        let client = ClusterClient::new(vec![cluster.url()])?;
        client.get_async_connection().await
    };
    let bare = Bare {
        connection: runtime.block_on(connecting)?,
        visitors: Arc::clone(&visitors),
    };
    // Every session once, so that reads find something.
    let mut writer = ours.clone();
    runtime.block_on(async {
        for number in 0..10 {
            writer.run(Job::SetMany, number).await?;
        }
        Result::<()>::Ok(())
    })?;
    let mut verdicts = Vec::new();
    for job in Job::ALL {
        for callers in CALLERS {
            let sides = [
                Contestant::new("bare", &bare, job),
                Contestant::new("ours", &ours, job),
            ];
            let ratio = row(&runtime, threads, callers, job, &sides, effort)?;
            if job == Job::GetMany && threads == 1 {
                let what = format!("cluster, {}, {callers} at a time: rate", job.name());
                verdicts.push(Verdict::new(what, ratio, Target::AtLeast(1.3)));
            }
        }
    }
    Ok(verdicts)
}

/// Races the two and returns the ratio of our rate to the other.
fn row(
    runtime: &Runtime,
    threads: usize,
    callers: usize,
    job: Job,
    sides: &[Contestant],
    effort: Effort,
) -> Result<f64> {
    let outcomes = race(runtime, effort, callers, sides)?;
    let [bare, ours] = outcomes[..] else {
        return Err("a side is missing".into());
    };
    println!(
        "{:<13}{threads:>8}{callers:>8}{:>9.0}{:>9.0}{:>7.3}{:>9.1}{:>9.1}{:>7.3}",
        job.name(),
        ours.rate,
        bare.rate,
        ours.rate_ratio,
        ours.cpu,
        bare.cpu,
        ours.cpu_ratio
    );
    Ok(ours.rate_ratio)
}
