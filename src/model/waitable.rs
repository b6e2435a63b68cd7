//! The id of anything that can complete.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::id::{BatchId, BatchKind, Kind, RunId, RunKind, WaitpointId};

/// What a run can wait for. Its text is the id's own, whose prefix says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waitable {
    /// A timer or a token.
    Waitpoint(WaitpointId),
    /// A run: complete once it is final.
    Run(RunId),
    /// A batch: complete once all its runs are final.
    Batch(BatchId),
}

/// Why a text names nothing that can be waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a waitpoint, a run or a batch")]
pub struct NotWaitable;

impl FromStr for Waitable {
    type Err = NotWaitable;

    fn from_str(text: &str) -> Result<Waitable, NotWaitable> {
        let parsed = match text.split_once('_').map(|(prefix, _)| prefix) {
            Some(RunKind::PREFIX) => text.parse().map(Waitable::Run),
            Some(BatchKind::PREFIX) => text.parse().map(Waitable::Batch),
            _ => text.parse().map(Waitable::Waitpoint),
        };
        parsed.map_err(|_| NotWaitable)
    }
}

impl fmt::Display for Waitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waitable::Waitpoint(id) => id.fmt(f),
            Waitable::Run(id) => id.fmt(f),
            Waitable::Batch(id) => id.fmt(f),
        }
    }
}

impl From<WaitpointId> for Waitable {
    fn from(id: WaitpointId) -> Waitable {
        Waitable::Waitpoint(id)
    }
}

impl From<RunId> for Waitable {
    fn from(id: RunId) -> Waitable {
        Waitable::Run(id)
    }
}

impl From<BatchId> for Waitable {
    fn from(id: BatchId) -> Waitable {
        Waitable::Batch(id)
    }
}

impl Serialize for Waitable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Waitable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waitable_is_what_its_text_says() {
        let all: [Waitable; 3] = [WaitpointId::new().into(), RunId::new().into(), BatchId::new().into()];
        for waitable in all {
            assert_eq!(waitable.to_string().parse::<Waitable>(), Ok(waitable));
        }
        for text in ["", "run_", "run_1", "batch_x", "queue_00000000000000000000000000", "waitpoint"] {
            assert_eq!(text.parse::<Waitable>(), Err(NotWaitable), "{text}");
        }
    }
}
