//! Moving slots between nodes while the cluster serves.

use std::io;

use super::RedisCluster;

/// How many keys are moved at a time.
const KEYS_AT_A_TIME: &str = "100";

/// How long moving them may take, in milliseconds.
const MOVE_TIMEOUT: &str = "5000";

impl RedisCluster {
    /// Moves slots with their keys from one primary to another, as `redis-cli --cluster reshard`
    /// does, and waits until every node that runs knows of it. Keys that are not UTF-8 cannot be
    /// moved.
    ///
    /// # Errors
    ///
    /// What a node answered, such as that it does not serve the slot.
    pub fn move_slots(
        &self,
        slots: impl IntoIterator<Item = u16>,
        from: usize,
        to: usize,
    ) -> io::Result<()> {
        let slots: Vec<_> = slots.into_iter().collect();
        for &slot in &slots {
            self.begin_move(slot, from, to)?;
            self.move_keys(slot, from, to)?;
            self.end_move(slot, from, to)?;
        }
        self.wait_until_all_know(&slots, to)
    }

    /// The first step of moving a slot: from now on `from` sends clients to `to` (`ASK`) for keys
    /// that it does not have.
    ///
    /// # Errors
    ///
    /// As [`move_slots`](Self::move_slots).
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        self.set_slot(to, slot, &["IMPORTING", self.id(from)])?;
        self.set_slot(from, slot, &["MIGRATING", self.id(to)])
    }

    /// The second step: moves all keys of the slot.
    ///
    /// # Errors
    ///
    /// As [`move_slots`](Self::move_slots).
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        let slot = slot.to_string();
        let port = self.node(to).ports().public().to_string();
        let mut prefix = vec!["MIGRATE", "127.0.0.1", &port, "", "0", MOVE_TIMEOUT];
        if let Some(password) = &self.password {
            prefix.extend(["AUTH", password]);
        }
        prefix.push("KEYS");
        loop {
            let ask = ["CLUSTER", "GETKEYSINSLOT", &slot, KEYS_AT_A_TIME];
            let keys = self.node(from).command_items(&ask)?;
            if keys.is_empty() {
                return Ok(());
            }
            let keys = keys.iter().map(String::as_str);
            let words: Vec<_> = prefix.iter().copied().chain(keys).collect();
            self.node(from).command(&words)?;
        }
    }

    /// The last step: `to` serves the slot, and the other primaries that run are told.
    ///
    /// # Errors
    ///
    /// As [`move_slots`](Self::move_slots).
    pub fn end_move(&self, slot: u16, from: usize, to: usize) -> io::Result<()> {
        // The new owner first: were it the other way round, a client sent there meanwhile would be
        // sent back.
        let mut told = vec![to, from];
        let primaries = self.primaries()?;
        told.extend(
            primaries
                .into_iter()
                .filter(|&place| place != to && place != from),
        );
        for place in told {
            self.set_slot(place, slot, &["NODE", self.id(to)])?;
        }
        Ok(())
    }

    fn set_slot(&self, place: usize, slot: u16, words: &[&str]) -> io::Result<()> {
        let slot = slot.to_string();
        let words = [&["CLUSTER", "SETSLOT", &slot], words].concat();
        self.node(place).command(&words)?;
        Ok(())
    }

    fn wait_until_all_know(&self, slots: &[u16], owner: usize) -> io::Result<()> {
        self.wait_until(|| {
            for (place, view) in self.views()? {
                let is_elsewhere = |&&slot: &&u16| view.owner(slot) != Some(self.id(owner));
                if let Some(slot) = slots.iter().find(is_elsewhere) {
                    let amiss = format!("node {place} says {owner} does not serve the slot {slot}");
                    return Ok(Err(amiss));
                }
            }
            Ok(Ok(()))
        })
    }
}
