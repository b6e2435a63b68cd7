//! What the entries of a run's story keep for its trace.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{checkpoint::Checkpoint, waitable::Waitable, waitpoint::WaitRequest};

/// Most things waited for that are named.
const MAX_NAMED: usize = 10;

/// The data of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Note {
    /// Of a suspension: what for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitNote>,
    /// Of a suspension: where the run is meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointNote>,
    /// Microseconds that it took to restore the run, of whatever it does first after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_us: Option<u64>,
}

/// What a run waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitNote {
    /// Of which kind.
    pub kind: WaitKind,
    /// Until when, if it is for a moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// What is waited for, the first ten.
    #[serde(default, rename = "for", skip_serializing_if = "Vec::is_empty")]
    pub waitables: Vec<Waitable>,
    /// How many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// The kinds of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitKind {
    /// For a moment, through the platform.
    Timer,
    /// For a moment, through WASI.
    Sleep,
    /// For one of some things.
    Any,
}

/// A checkpoint that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointNote {
    /// Bytes of the snapshot as it is stored.
    pub stored_bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Microseconds that it took to take and store it, less the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_us: Option<u64>,
}

impl Note {
    /// Of a suspension.
    pub fn suspension(wait: &WaitRequest, checkpoint: &Checkpoint, timing: Timing) -> Note {
        Note {
            wait: Some(WaitNote::of(wait)),
            checkpoint: Some(CheckpointNote {
                stored_bytes: checkpoint.stored_bytes,
                raw_bytes: checkpoint.raw_bytes,
                taken_us: timing.taken_us,
            }),
            restored_us: timing.restored_us,
        }
    }
}

/// How long a worker took to take a checkpoint, and before that to restore one, in microseconds; none: it did not, or it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// To take it.
    pub taken_us: Option<u64>,
    /// To restore the one before.
    pub restored_us: Option<u64>,
}

impl WaitNote {
    fn of(wait: &WaitRequest) -> WaitNote {
        match wait {
            WaitRequest::Timer { at, .. } => WaitNote { until: Some(*at), ..WaitNote::plain(WaitKind::Timer) },
            WaitRequest::Sleep { at } => WaitNote { until: Some(*at), ..WaitNote::plain(WaitKind::Sleep) },
            WaitRequest::Any { waitables } => WaitNote {
                waitables: waitables.iter().take(MAX_NAMED).copied().collect(),
                count: Some(waitables.len()),
                ..WaitNote::plain(WaitKind::Any)
            },
        }
    }

    fn plain(kind: WaitKind) -> WaitNote {
        WaitNote { kind, until: None, waitables: Vec::new(), count: None }
    }
}
