//! What can go wrong between a client and its server.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server: requests.
    Up,
    /// From the server to the client: replies.
    Down,
    /// Both ways.
    Both,
}

impl Direction {
    pub(super) fn is_up(self) -> bool {
        self != Self::Down
    }

    pub(super) fn is_down(self) -> bool {
        self != Self::Up
    }
}

/// How a connection ends, or seems to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// It does not: what comes after is read, thrown away and never missed by TCP. Lasts for as
    /// long as the connection does, whatever fault is set later.
    Hang,
    /// The receiver sees the orderly end of the stream. The other direction goes on.
    Fin,
    /// Client and server both see a reset.
    Reset,
}

/// What a [`FaultProxy`](super::FaultProxy) does to the connections through it.
///
/// A fault holds for connections that exist and for those that come, until another is set. Those
/// that say *once* happen to one connection, the first concerned, and everything passes afterwards.
/// Bytes are counted from the call that set the fault, over all connections together unless
/// otherwise stated. Lifting a fault lets go at once of what it held back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Everything passes, in order and at once.
    Pass,
    /// Every byte arrives this much later than it would.
    Delay(Direction, Duration),
    /// Every piece arrives later by a time drawn from the range, in order all the same. The same
    /// seed draws the same times.
    Jitter(Direction, Range<Duration>, u64),
    /// So many bytes at a time, at least one, with this pause between them.
    Drip(Direction, usize, Duration),
    /// Once: in place of the byte after so many others, the connection that carries it ends.
    Cut(Direction, u64, End),
    /// As [`Cut`](Self::Cut), on every connection, counted on each from the call or, where that was
    /// later, from its own beginning.
    CutEach(Direction, u64, End),
    /// Everything is read and thrown away, ends of connections included, as if the network lost it
    /// and TCP did not notice: the sender goes on, and what was sent meanwhile never arrives, not
    /// even when the fault is lifted. A connection that lost something is out of step from then on.
    Blackhole(Direction),
    /// Nothing is read any more: buffers fill up until the sender cannot write. Everything arrives
    /// when the fault is lifted.
    Stall(Direction),
    /// Once: the byte after so many others is changed by an exclusive or with the last number.
    Corrupt(Direction, u64, u8),
    /// Once: the next piece that arrives is delivered twice.
    Duplicate(Direction),
    /// Once: when the next piece of a request was delivered, the client sees the end of the stream
    /// instead of an answer. The server keeps its connection until the client closes.
    HalfClose,
    /// Connections are refused, because nobody listens. Those that exist go on; see
    /// [`reset_all`](super::FaultProxy::reset_all). The port stays the proxy's own.
    Refuse,
    /// New connections are accepted, and nothing else happens until the fault is lifted: then they
    /// reach the server with up to 64 KiB of what was sent meanwhile. Those that exist go on.
    AcceptThenHang,
    /// Every piece of a request is answered with a record of TLS that makes no sense; otherwise as
    /// [`Reply`](Self::Reply).
    TlsGarbage,
    /// Every piece of a request is answered with these bytes, without asking the server, whose
    /// connections are closed. Connections answered like that are closed when the fault is lifted.
    Reply(Bytes),
}

/// The header of a handshake record, with a length that the rest does not have the form for.
pub(super) const TLS_GARBAGE: &[u8] = b"\x16\x03\x03\x00\x10\xde\xad\xbe\xef not a hello";
