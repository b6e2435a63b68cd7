//! Ids as users see them: a prefix that names the kind, an underscore, and 26 characters that sort by time.
//!
//! The body is the Crockford base32 text (lower case) of a UUID version 7, so an id is one `uuid` column in Postgres, ids
//! made later sort later, and a mistyped prefix is caught where the id is parsed rather than as a row that is not found.

use std::{fmt, hash, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BODY: usize = 26;

/// What an id names. Implemented by the empty types of this file only.
pub trait Kind {
    /// The text before the underscore.
    const PREFIX: &'static str;
}

/// The id of one `K`: `run_…`, `waitpoint_…`.
pub struct Id<K>(Uuid, PhantomData<fn() -> K>);

macro_rules! kinds {
    ($($(#[$doc:meta])* $alias:ident = $kind:ident $prefix:literal;)*) => { $(
        #[doc = concat!("Marker of `", $prefix, "_…` ids.")]
        #[derive(Debug)]
        pub enum $kind {}
        impl Kind for $kind { const PREFIX: &'static str = $prefix; }
        $(#[$doc])*
        pub type $alias = Id<$kind>;
    )* };
}
kinds! {
    /// A run: `run_…`.
    RunId = RunKind "run";
    /// A waitpoint, a timer or a token: `waitpoint_…`.
    WaitpointId = WaitpointKind "waitpoint";
    /// A batch of runs: `batch_…`.
    BatchId = BatchKind "batch";
    /// Many runs that are cancelled or replayed together: `bulk_…`.
    BulkActionId = BulkActionKind "bulk";
    /// A deployed bundle: `deployment_…`.
    DeploymentId = DeploymentKind "deployment";
    /// An environment: `env_…`.
    EnvironmentId = EnvironmentKind "env";
    /// A project: `project_…` (its public reference is `proj_…`).
    ProjectId = ProjectKind "project";
    /// A key of an environment: `apikey_…`. The key itself is a secret and begins with `tr_`.
    ApiKeyId = ApiKeyMarker "apikey";
    /// A queue: `queue_…`.
    QueueId = QueueKind "queue";
    /// A concurrency limit: `climit_…`.
    LimitId = LimitKind "climit";
    /// A schedule: `sched_…`.
    ScheduleId = ScheduleKind "sched";
    /// One process that leases runs: `worker_…`. A restarted process has a new one.
    WorkerId = WorkerKind "worker";
}

/// Why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}_ followed by 26 letters and digits")]
pub struct Malformed {
    /// The prefix that was expected.
    pub prefix: &'static str,
}

impl<K> Id<K> {
    /// A new id; later ids sort after earlier ones.
    #[expect(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
    pub fn new() -> Self {
        Self(Uuid::now_v7(), PhantomData)
    }

    /// The id with these bytes, as a row holds it.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }

    /// The bytes, as a row holds them.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bits = self.0.as_u128();
        let mut body = [0u8; BODY];
        for place in body.iter_mut().rev() {
            *place = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
        }
        write!(f, "{}_{}", K::PREFIX, std::str::from_utf8(&body).expect("the alphabet is ASCII"))
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed { prefix: K::PREFIX };
        let body = text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(malformed.clone())?;
        if body.len() != BODY {
            return Err(malformed);
        }
        let mut bits: u128 = 0;
        for (place, letter) in body.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|a| *a == letter).ok_or(malformed.clone())? as u128;
            // 26 letters hold 130 bits; the first may only use three.
            if place == 0 && digit > 7 {
                return Err(malformed);
            }
            bits = bits << 5 | digit;
        }
        Ok(Self(Uuid::from_u128(bits), PhantomData))
    }
}

// Derives would ask the same of the marker types.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<K> hash::Hash for Id<K> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_its_text_says() {
        for _ in 0..100 {
            let id = RunId::new();
            assert_eq!(id.to_string().len(), "run_".len() + BODY);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn ids_made_later_sort_later_as_text_too() {
        let ids: Vec<String> = (0..100).map(|_| RunId::new().to_string()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn other_prefixes_lengths_and_letters_are_refused() {
        let id = RunId::new().to_string();
        for text in [
            "",
            "run",
            "run_",
            &id[4..],
            &id.replace("run_", "batch_"),
            &format!("{id}0"),
            &format!("run_u{}", &id[5..]),
            &format!("run_8{}", &id[5..]),
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }
}
