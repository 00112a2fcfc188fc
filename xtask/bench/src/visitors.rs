//! The sessions that are cached.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

#[cfg(feature = "allocations")]
use crate::measure::Result;

/// How many sessions there are.
const SESSIONS: usize = 1000;

/// How many entries a batch has.
const BATCH: usize = 100;

/// The prefix of the service, already in the keys of the bare client.
pub(crate) const PREFIX: &str = "session";

/// What a web shop knows about a visitor, 284 bytes as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) id: String,
    user: u64,
    name: String,
    email: String,
    locale: String,
    roles: Vec<String>,
    csrf_token: String,
    address: String,
    created_at: u64,
    last_seen_at: u64,
}

impl Session {
    pub(crate) fn numbered(number: usize) -> Self {
        Self {
            id: format!("{number:016x}"),
            user: 4_200_000 + number as u64,
            name: "Adelheid Brockmann".to_owned(),
            email: "adelheid.brockmann@example.com".to_owned(),
            locale: "de-DE".to_owned(),
            roles: vec!["customer".to_owned(), "reviewer".to_owned()],
            csrf_token: format!("{:032x}", 0x5eed_u128 << 64 | number as u128),
            address: "10.0.113.207".to_owned(),
            created_at: 1_767_225_600_000,
            last_seen_at: 1_767_225_789_012,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    Get,
    Set,
    GetMany,
    SetMany,
}

impl Job {
    pub(crate) const ALL: [Self; 4] = [Self::Get, Self::Set, Self::GetMany, Self::SetMany];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Set => "SET",
            Self::GetMany => "get_many 100",
            Self::SetMany => "set_many 100",
        }
    }
}

/// The sessions, and their keys as the bare client uses them.
pub(crate) struct Visitors {
    pub(crate) sessions: Vec<Session>,
    pub(crate) keys: Vec<String>,
}

impl Visitors {
    pub(crate) fn new() -> Arc<Self> {
        let sessions: Vec<_> = (0..SESSIONS).map(Session::numbered).collect();
        let key = |session: &Session| format!("{PREFIX}:{}", session.id);
        let keys = sessions.iter().map(key).collect();
        Arc::new(Self { sessions, keys })
    }

    pub(crate) fn session(&self, number: usize) -> &Session {
        &self.sessions[number % SESSIONS]
    }

    pub(crate) fn key(&self, number: usize) -> &str {
        &self.keys[number % SESSIONS]
    }

    pub(crate) fn batch(number: usize) -> std::ops::Range<usize> {
        let start = number * BATCH % SESSIONS;
        start..start + BATCH
    }
}

#[cfg(feature = "allocations")]
impl Visitors {
    /// The sessions that a job is about.
    fn concerned(&self, job: Job, number: usize) -> &[Session] {
        match job {
            Job::Get | Job::Set => std::slice::from_ref(self.session(number)),
            Job::GetMany | Job::SetMany => &self.sessions[Self::batch(number)],
        }
    }

    /// The codec work of a write by itself.
    pub(crate) fn encode(&self, job: Job, number: usize) -> Result {
        for session in self.concerned(job, number) {
            std::hint::black_box(serde_json::to_vec(session)?);
        }
        Ok(())
    }

    /// What a read finds.
    pub(crate) fn encoded(&self, job: Job) -> Result<Vec<Vec<u8>>> {
        let sessions = self.concerned(job, 0).iter();
        Ok(sessions.map(serde_json::to_vec).collect::<Result<_, _>>()?)
    }

    /// The codec work of a read by itself.
    pub(crate) fn decode(encoded: &[Vec<u8>]) -> Result {
        for bytes in encoded {
            std::hint::black_box(serde_json::from_slice::<Session>(bytes)?);
        }
        Ok(())
    }
}
