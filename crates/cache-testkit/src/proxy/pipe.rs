//! One direction of one connection.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::counters::{Open, Tally};
use super::fault::End;
use super::faults::{Faults, Flow, Line};

/// The most that is held back in one direction before nothing more is read.
const HELD_AT_MOST: usize = 256 * 1024;

/// The most that is read at once.
const PIECE: usize = 16 * 1024;

/// Both sides of the connection are to be reset.
#[derive(Debug)]
pub(super) struct Torn;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Up,
    Down,
}

/// What both directions of a connection share.
#[derive(Debug)]
pub(super) struct Both<'a> {
    pub(super) tally: &'a Tally,
    pub(super) open: &'a Open,
    /// Says that the client is to see the end although the server did not close.
    pub(super) half_close: &'a Notify,
}

/// Carries bytes from one socket to another, as the faults in force say.
pub(super) struct Pipe<'a> {
    side: Side,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    both: &'a Both<'a>,
    faults: watch::Receiver<Faults>,
    line: Line,
    /// What was read and not yet delivered, with the time at which it may be.
    held: VecDeque<(Instant, Item)>,
    held_bytes: usize,
    /// Bytes delivered since the fault in force was set.
    delivered: u64,
    not_before: Instant,
    has_read_all: bool,
    /// Set by a cut, for good: nothing is delivered any more.
    is_cut: bool,
}

enum Item {
    Bytes(Bytes),
    End,
    Reset,
}

enum Turn {
    Changed,
    HalfClosed,
    Due,
    Readable,
    Writable,
}

impl<'a> Pipe<'a> {
    pub(super) fn new(
        side: Side,
        (from, to): (ReadHalf<'a>, WriteHalf<'a>),
        both: &'a Both<'a>,
        faults: watch::Receiver<Faults>,
    ) -> Self {
        Self {
            side,
            from,
            to,
            both,
            faults,
            line: Line::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            delivered: 0,
            not_before: Instant::now(),
            has_read_all: false,
            is_cut: false,
        }
    }

    /// Begins with bytes that were read already.
    pub(super) fn begin_with(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.hold(Duration::ZERO, Item::Bytes(bytes));
        }
    }

    /// Returns when this direction has ended in order.
    pub(super) async fn run(mut self) -> Result<(), Torn> {
        loop {
            self.look_at_faults();
            if self.throws_away() {
                self.throw_held_away();
            }
            if let Some(is_reset) = self.end_is_due() {
                return self.end(is_reset).await;
            }
            match self.next_turn().await? {
                Turn::Changed | Turn::Due => {}
                Turn::HalfClosed => self.cut(End::Fin).await?,
                Turn::Readable => self.read(),
                Turn::Writable => self.write().await?,
            }
        }
    }

    /// Takes note of a new fault, and lets go of what the one before held back.
    fn look_at_faults(&mut self) {
        let faults = self.faults.borrow_and_update();
        let line = match self.side {
            Side::Up => &faults.up,
            Side::Down => &faults.down,
        };
        if line.number == self.line.number {
            return;
        }
        self.line = line.clone();
        drop(faults);
        self.delivered = 0;
        self.not_before = Instant::now();
        for (due, _) in &mut self.held {
            *due = self.not_before;
        }
    }

    fn throws_away(&self) -> bool {
        self.is_cut || matches!(self.line.flow, Flow::Blackhole)
    }

    fn throw_held_away(&mut self) {
        let lost = self.held_bytes as u64;
        self.held
            .retain(|(_, item)| !matches!(item, Item::Bytes(_)));
        self.held_bytes = 0;
        if lost > 0 {
            self.both.tally.change(|counters| match self.side {
                Side::Up => counters.lost_up += lost,
                Side::Down => counters.lost_down += lost,
            });
        }
    }

    /// Whether it is time for the end of the stream, and whether that is a reset.
    fn end_is_due(&self) -> Option<bool> {
        let is_reset = match self.held.front()?.1 {
            Item::Bytes(_) => return None,
            Item::End => false,
            Item::Reset => true,
        };
        let is_due = self.next_due().is_none_or(|due| due <= Instant::now());
        (is_due && !matches!(self.line.flow, Flow::Stall)).then_some(is_reset)
    }

    async fn end(mut self, is_reset: bool) -> Result<(), Torn> {
        if self.throws_away() {
            return Ok(());
        }
        if is_reset {
            return Err(Torn);
        }
        self.to.shutdown().await.map_err(|_| Torn)
    }

    /// When what is held first may go.
    fn next_due(&self) -> Option<Instant> {
        let (due, _) = self.held.front()?;
        Some((*due).max(self.not_before))
    }

    async fn next_turn(&mut self) -> Result<Turn, Torn> {
        let is_stalled = matches!(self.line.flow, Flow::Stall);
        let due = self.next_due().filter(|_| !is_stalled);
        let later = due.filter(|due| *due > Instant::now());
        let writes = due.is_some() && later.is_none();
        let reads = !self.has_read_all && !is_stalled && self.held_bytes < HELD_AT_MOST;
        tokio::select! {
            biased;
            changed = self.faults.changed() => changed.map(|()| Turn::Changed).map_err(|_| Torn),
            () = self.both.half_close.notified(), if self.side == Side::Down => {
                Ok(Turn::HalfClosed)
            }
            ready = self.to.writable(), if writes => ready.map(|()| Turn::Writable).map_err(|_| Torn),
            ready = self.from.readable(), if reads => ready.map(|()| Turn::Readable).map_err(|_| Torn),
            () = sleep_until(later.unwrap_or(self.not_before)), if later.is_some() => Ok(Turn::Due),
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; PIECE];
        let item = match self.from.try_read(&mut buffer) {
            Ok(length @ 1..) => return self.hold_piece(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(0) => Item::End,
            Err(_) => Item::Reset,
        };
        self.has_read_all = true;
        // A blackhole swallows the end too, even if it is lifted in the next moment.
        self.is_cut = self.throws_away();
        if self.side == Side::Up {
            self.both.open.close();
        }
        self.hold(self.delay(), item);
    }

    fn hold_piece(&mut self, piece: &[u8]) {
        let bytes = Bytes::copy_from_slice(piece);
        let delay = self.delay();
        if let Flow::Duplicate(once) = &self.line.flow
            && once.fire()
        {
            self.fired();
            self.hold(delay, Item::Bytes(bytes.clone()));
        }
        self.hold(delay, Item::Bytes(bytes));
    }

    fn delay(&self) -> Duration {
        match &self.line.flow {
            Flow::Delay(by) => *by,
            Flow::Jitter(jitter) => jitter.draw(),
            _ => Duration::ZERO,
        }
    }

    fn hold(&mut self, delay: Duration, item: Item) {
        let mut due = Instant::now() + delay;
        if let Some((last, _)) = self.held.back() {
            due = due.max(*last);
        }
        if let Item::Bytes(bytes) = &item {
            self.held_bytes += bytes.len();
        }
        self.held.push_back((due, item));
    }

    async fn write(&mut self) -> Result<(), Torn> {
        let Some(end) = self.due_cut() else {
            return self.deliver();
        };
        self.fired();
        self.cut(end).await
    }

    /// The end that the next byte is to be replaced by, if it is.
    fn due_cut(&self) -> Option<End> {
        match &self.line.flow {
            Flow::Cut(once, end) => (once.left() == Some(0) && once.fire()).then_some(*end),
            Flow::CutEach(after, end) => (self.delivered >= *after).then_some(*end),
            _ => None,
        }
    }

    async fn cut(&mut self, end: End) -> Result<(), Torn> {
        self.is_cut = true;
        match end {
            End::Hang => Ok(()),
            End::Fin => self.to.shutdown().await.map_err(|_| Torn),
            End::Reset => Err(Torn),
        }
    }

    /// Delivers as much of what is due as the fault lets through and the receiver takes.
    fn deliver(&mut self) -> Result<(), Torn> {
        let Some((_, Item::Bytes(front))) = self.held.front() else {
            return Ok(());
        };
        let piece = &front[..front.len().min(self.at_most())];
        let mask = self.due_mask();
        let written = match mask {
            Some(mask) => self.to.try_write(&[piece[0] ^ mask]),
            None => self.to.try_write(piece),
        };
        match written {
            Ok(length) => {
                self.went(length, mask.is_some());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Torn),
        }
    }

    /// How many bytes may go in one write; never zero.
    fn at_most(&self) -> usize {
        let left = match &self.line.flow {
            Flow::Drip(bytes, _) => return *bytes,
            Flow::Cut(once, _) => once.left(),
            // The byte to be changed goes alone.
            Flow::Corrupt(once, _) => once.left().map(|left| left.max(1)),
            Flow::CutEach(after, _) => after.checked_sub(self.delivered),
            _ => None,
        };
        left.and_then(|left| usize::try_from(left).ok())
            .unwrap_or(usize::MAX)
    }

    /// What the next byte is changed by, if it is.
    fn due_mask(&self) -> Option<u8> {
        match &self.line.flow {
            Flow::Corrupt(once, mask) if once.left() == Some(0) => Some(*mask),
            _ => None,
        }
    }

    /// Counts bytes that were delivered, and does what comes after them.
    fn went(&mut self, length: usize, is_corrupt: bool) {
        self.forget(length);
        let bytes = length as u64;
        self.delivered += bytes;
        self.both.tally.change(|counters| match self.side {
            Side::Up => counters.bytes_up += bytes,
            Side::Down => counters.bytes_down += bytes,
        });
        match &self.line.flow {
            Flow::Drip(_, every) => self.not_before = Instant::now() + *every,
            Flow::Cut(once, _) => once.count(bytes),
            Flow::Corrupt(once, _) if is_corrupt => {
                once.fire();
                self.fired();
            }
            Flow::Corrupt(once, _) => once.count(bytes),
            Flow::HalfClose(once) if once.fire() => {
                self.both.half_close.notify_one();
                self.fired();
            }
            _ => {}
        }
    }

    fn forget(&mut self, length: usize) {
        self.held_bytes -= length;
        let Some((_, Item::Bytes(front))) = self.held.front_mut() else {
            return;
        };
        front.advance(length);
        if front.is_empty() {
            self.held.pop_front();
        }
    }

    fn fired(&self) {
        self.both.tally.change(|counters| counters.fired += 1);
    }
}
