//! What one node says of its cluster.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The answer to `CLUSTER NODES`: a member by its id.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct View(BTreeMap<String, Member>);

/// One node, as another one or itself sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) is_myself: bool,
    /// Known, connected, and not suspected of having failed.
    pub(super) is_well: bool,
    /// The id of the primary whose replica it is.
    pub(super) primary: Option<String>,
    /// Which of two claims on a slot is the later one.
    pub(super) epoch: u64,
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

impl View {
    /// Reads the answer; lines that it cannot read are no members.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Member::parse).collect())
    }

    pub(super) fn member(&self, id: &str) -> Option<&Member> {
        self.0.get(id)
    }

    /// The node itself.
    pub(super) fn myself(&self) -> Option<&Member> {
        self.0.values().find(|member| member.is_myself)
    }

    /// The id of the node that serves a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&str> {
        let (id, _) = self.0.iter().find(|(_, member)| member.owns(slot))?;
        Some(id)
    }

    /// Who serves what and who replicates whom, a line a node: text, to be compared and shown.
    pub(super) fn order(&self) -> String {
        let mut order = String::new();
        for (id, member) in &self.0 {
            let Member { primary, slots, .. } = member;
            let role = primary.as_ref().map_or_else(
                || format!("serves {slots:?}"),
                |primary| format!("replicates {primary}"),
            );
            order.push_str(&format!("{id} {role}\n"));
        }
        order
    }
}

impl Member {
    pub(super) fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }

    /// Reads `ID ADDRESS FLAGS PRIMARY PING PONG EPOCH LINK SLOTS...`.
    fn parse(line: &str) -> Option<(String, Self)> {
        let mut words = line.split_whitespace();
        let id = words.next()?;
        let flags: Vec<_> = words.nth(1)?.split(',').collect();
        let primary = words.next()?;
        let epoch = words.nth(2)?.parse().ok()?;
        let is_connected = words.next()? == "connected";
        let in_trouble = ["fail", "fail?", "handshake", "noaddr"];
        let member = Self {
            is_myself: flags.contains(&"myself"),
            is_well: is_connected && !flags.iter().any(|flag| in_trouble.contains(flag)),
            primary: (primary != "-").then(|| primary.to_owned()),
            epoch,
            // Slots on the move stand at the end, in brackets.
            slots: words.map_while(slots).collect(),
        };
        Some((id.to_owned(), member))
    }
}

/// Reads `7` or `7-9`.
fn slots(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
aa 127.0.0.1:15001@15011 myself,master - 0 0 3 connected 0-5 9 [9->-bb] [7-<-bb]
bb 127.0.0.1:15002@15012,host master - 0 1 4 connected 6-8
cc 127.0.0.1:15003@15013 slave,fail? bb 5 1 4 disconnected
";

    #[test]
    fn members_are_read() {
        let view = View::parse(NODES);
        let myself = view.myself().unwrap();
        assert_eq!(myself.slots, [0..=5, 9..=9]);
        assert_eq!((myself.epoch, myself.is_well), (3, true));
        let replica = view.member("cc").unwrap();
        assert_eq!(replica.primary.as_deref(), Some("bb"));
        assert!(!replica.is_well && !replica.is_myself);
        assert_eq!(view.owner(7), Some("bb"));
        assert_eq!(view.owner(10), None);
        assert_eq!(
            view.order(),
            "aa serves [0..=5, 9..=9]\nbb serves [6..=8]\ncc replicates bb\n"
        );
    }
}
