//! The map of slots with the servers behind it.

use std::sync::Arc;

use super::super::node::Node;
use super::super::slots::{Layout, SLOTS};
use crate::address::Address;

/// No server.
const NOBODY: u16 = u16::MAX;

/// Which server has which slot. Never changed, only replaced.
#[derive(Debug, Clone)]
pub(super) struct Table {
    nodes: Vec<Arc<Node>>,
    /// For each slot the position of its server.
    owners: Box<[u16]>,
    replicas: Vec<Address>,
    /// Servers that have no slot yet and are sent keys of one that is on its way.
    guests: Vec<Arc<Node>>,
}

/// So many of them are kept; the oldest one makes room.
const MOST_GUESTS: usize = 64;

impl Table {
    /// The map that `layout` describes, with the servers that `node_at` gives for its addresses.
    pub(super) fn new(layout: &Layout, node_at: impl Fn(&Address) -> Arc<Node>) -> Self {
        let mut table = Self {
            nodes: Vec::new(),
            owners: vec![NOBODY; usize::from(SLOTS)].into(),
            replicas: layout.replicas.clone(),
            guests: Vec::new(),
        };
        for (first, last, address) in &layout.ranges {
            let known = table
                .nodes
                .iter()
                .position(|node| node.address() == address);
            let at = known.unwrap_or_else(|| {
                table.nodes.push(node_at(address));
                table.nodes.len() - 1
            });
            table.own(usize::from(*first)..=usize::from(*last), at);
        }
        table
    }

    /// The same map, but `slot` belongs to `node`.
    pub(super) fn with_owner(&self, slot: u16, node: &Arc<Node>) -> Self {
        let mut table = self.clone();
        let known = table
            .nodes
            .iter()
            .position(|known| Arc::ptr_eq(known, node));
        let at = known.unwrap_or_else(|| {
            table.nodes.push(Arc::clone(node));
            table.nodes.len() - 1
        });
        table.own(usize::from(slot)..=usize::from(slot), at);
        table
    }

    /// The same map, which remembers a server without slots.
    pub(super) fn with_guest(&self, node: &Arc<Node>) -> Self {
        let mut table = self.clone();
        if table.guests.len() >= MOST_GUESTS {
            table.guests.remove(0);
        }
        table.guests.push(Arc::clone(node));
        table
    }

    /// The server of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        let at = self.owners.get(usize::from(slot))?;
        self.nodes.get(usize::from(*at))
    }

    /// The server at an address.
    pub(super) fn node_at(&self, address: &Address) -> Option<Arc<Node>> {
        let node = self.everyone().find(|node| node.address() == address)?;
        Some(Arc::clone(node))
    }

    /// Every server there may be a connection to.
    pub(super) fn everyone(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().chain(&self.guests)
    }

    /// Every server that has slots.
    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Those that only copy; they know the map as well.
    pub(super) fn replicas(&self) -> &[Address] {
        &self.replicas
    }

    fn own(&mut self, slots: std::ops::RangeInclusive<usize>, at: usize) {
        let at = u16::try_from(at).unwrap_or(NOBODY);
        if let Some(owners) = self.owners.get_mut(slots) {
            owners.fill(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RedisOptions;

    fn table(ranges: &[(u16, u16, &str)]) -> Table {
        let options = Arc::new(RedisOptions::default());
        let ranges = ranges
            .iter()
            .map(|(first, last, host)| (*first, *last, Address::new(*host, 1)))
            .collect();
        let replicas = Vec::new();
        Table::new(&Layout { ranges, replicas }, |address| {
            Arc::new(Node::new(&options, address))
        })
    }

    fn owner(table: &Table, slot: u16) -> Option<&str> {
        Some(&*table.owner(slot)?.address().host)
    }

    #[tokio::test]
    async fn slots_have_the_servers_of_their_ranges() {
        let table = table(&[(0, 99, "a"), (100, 100, "b"), (16_383, 16_383, "a")]);
        assert_eq!(owner(&table, 0), Some("a"));
        assert_eq!(owner(&table, 100), Some("b"));
        assert_eq!(owner(&table, 101), None);
        assert_eq!(owner(&table, 16_383), Some("a"));
        assert_eq!(owner(&table, 16_384), None);
        assert_eq!(table.nodes().len(), 2);
    }

    #[tokio::test]
    async fn one_slot_moves_alone() {
        let before = table(&[(0, 16_383, "a")]);
        let stranger = Arc::clone(&table(&[(0, 0, "b")]).nodes()[0]);
        let after = before.with_owner(7, &stranger);
        assert_eq!(owner(&after, 7), Some("b"));
        assert_eq!(owner(&after, 8), Some("a"));
        assert_eq!(owner(&before, 7), Some("a"));
        let back = after.with_owner(7, &before.nodes()[0]);
        assert_eq!(owner(&back, 7), Some("a"));
        assert_eq!(back.nodes().len(), 2);
    }

    #[tokio::test]
    async fn guests_are_known_and_not_too_many() {
        let mut table = table(&[(0, 16_383, "a")]);
        let options = Arc::new(RedisOptions::default());
        for port in 1..=100 {
            let guest = Node::new(&options, &Address::new("guest", port));
            table = table.with_guest(&Arc::new(guest));
        }
        assert_eq!(table.nodes().len(), 1);
        assert_eq!(table.everyone().count(), 1 + MOST_GUESTS);
        let at = |port| table.node_at(&Address::new("guest", port));
        assert!(at(1).is_none() && at(100).is_some());
    }
}
