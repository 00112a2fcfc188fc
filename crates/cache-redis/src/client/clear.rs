//! Deleting whole ranges of keys, server by server.

use bytes::Bytes;
use cache_core::Result;
use futures_util::future::try_join_all;
use redis::cmd;
use tokio::time::Instant;

#[cfg(feature = "cluster")]
use super::batch::Unlinks;
use super::call::Budget;
use super::node::Node;
#[cfg(feature = "cluster")]
use super::reply::integer;
use super::reply::{all, array, bytes};
use super::servers::Servers;
use super::shape::{Expects, Shape};
use super::{BATCH, Client, reading, unlink};

/// What SCAN is answered with: where to go on, and keys.
const PAGE: Expects = Expects::Each(2, &[Shape::Bytes, Shape::Array]);

impl Client {
    /// Deletes every key that begins with `prefix`, on every server at the same time, and says how
    /// many, and whether time sufficed.
    pub(crate) async fn clear(&self, prefix: Option<&str>) -> Result<(u64, bool)> {
        let deadline = Instant::now() + self.options.clear_timeout;
        let nodes = self.servers.primaries(self.single().deadline).await?;
        let clears = nodes
            .iter()
            .map(|node| self.clear_node(node, prefix, deadline));
        let cleared = try_join_all(clears).await?;
        Ok(cleared
            .into_iter()
            .fold((0, true), |(sum, all), (deleted, complete)| {
                (sum + deleted, all && complete)
            }))
    }

    async fn clear_node(
        &self,
        node: &Node,
        prefix: Option<&str>,
        deadline: Instant,
    ) -> Result<(u64, bool)> {
        let pattern = prefix.map(|prefix| format!("{}*", escape_glob(prefix)));
        let mut cursor = "0".to_owned();
        let mut deleted = 0;
        loop {
            let mut budget = self.bulk();
            budget.deadline = budget.deadline.min(deadline);
            let mut command = cmd("SCAN");
            command.arg(&cursor);
            if let Some(pattern) = &pattern {
                command.arg("MATCH").arg(pattern);
            }
            command.arg("COUNT").arg(BATCH);
            let page = reading(&command.into(), PAGE, budget, node).await;
            if page.is_err() && Instant::now() >= deadline {
                return Ok((deleted, false));
            }
            let [next, keys] = array(page?)?;
            let keys = all(keys)?
                .into_iter()
                .filter_map(|key| bytes(key).ok().flatten())
                .filter(|key| prefix.is_none_or(|prefix| key.starts_with(prefix.as_bytes())))
                .collect::<Vec<_>>();
            for batch in keys.chunks(BATCH) {
                let gone = self.unlink_at(node, batch, budget).await;
                if gone.is_err() && Instant::now() >= deadline {
                    return Ok((deleted, false));
                }
                deleted += gone?;
            }
            let next = bytes(next)?.unwrap_or_default();
            if next == "0" {
                return Ok((deleted, true));
            }
            cursor = String::from_utf8_lossy(&next).into_owned();
            if Instant::now() >= deadline {
                return Ok((deleted, false));
            }
        }
    }

    /// Deletes keys that were found at `node`; in a cluster they may have moved on since.
    async fn unlink_at(&self, node: &Node, keys: &[Bytes], budget: Budget) -> Result<u64> {
        match &self.servers {
            Servers::Standalone(_) => unlink(node, keys, budget.anew()).await,
            #[cfg(feature = "cluster")]
            Servers::Cluster(_) => {
                let replies = self.servers.each_key(&Unlinks(keys), budget.anew()).await;
                let counts = replies
                    .into_iter()
                    .map(|reply| reply.and_then(|[count]| integer(count)));
                let deleted: i64 = counts.sum::<Result<_>>()?;
                Ok(u64::try_from(deleted).unwrap_or_default())
            }
        }
    }
}

/// Takes the special meaning from the characters that `SCAN MATCH` knows.
fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_lose_their_meaning() {
        assert_eq!(escape_glob(r"a*b?[c]\d^-"), r"a\*b\?\[c\]\\d\^\-");
        assert_eq!(escape_glob("ü {tag}"), "ü {tag}");
    }
}
