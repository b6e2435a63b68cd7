//! Keys that make something happen once.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::bindings::dormouse::task::context;
use crate::bindings::dormouse::task::types as wit;
use crate::time;

/// A key that makes a trigger happen once: a second one with the same key gets the run, or the batch, that the first one made.
///
/// ```no_run
/// # use std::time::Duration;
/// use dormouse::{IdempotencyKey, tasks};
///
/// # fn task() -> Result<(), dormouse::TaskError> {
/// // Once in this run, however often it is tried; a finished child answers at once.
/// let once = tasks::Options { idempotency_key: Some(IdempotencyKey::new("welcome")), ..tasks::Options::default() };
/// tasks::trigger_with("send-mail", "ann@example.com", &once)?;
/// // Once for all, for a day.
/// let key = IdempotencyKey::global("order 17").expires_after(Duration::from_secs(86_400));
/// # let _ = key;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    key: String,
    scope: Scope,
    ttl: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Run,
    Attempt,
    Global,
}

impl IdempotencyKey {
    /// A key of this run: other runs may use the same text.
    pub fn new(key: impl Into<String>) -> IdempotencyKey {
        IdempotencyKey { key: key.into(), scope: Scope::Run, ttl: None }
    }

    /// A key of this attempt: the next attempt triggers anew.
    pub fn of_attempt(key: impl Into<String>) -> IdempotencyKey {
        IdempotencyKey { scope: Scope::Attempt, ..IdempotencyKey::new(key) }
    }

    /// A key of the whole environment, for each task.
    pub fn global(key: impl Into<String>) -> IdempotencyKey {
        IdempotencyKey { scope: Scope::Global, ..IdempotencyKey::new(key) }
    }

    /// How long it counts; 30 days unless said otherwise.
    #[must_use]
    pub fn expires_after(mut self, ttl: Duration) -> IdempotencyKey {
        self.ttl = Some(ttl);
        self
    }

    /// As the host compares it: what every SDK makes of the same key. Source: facts 12.
    pub(crate) fn to_wit(&self) -> wit::Idempotency {
        let (suffix, scope) = match self.scope {
            Scope::Run => (vec![context::current().run.id], wit::IdempotencyScope::Run),
            Scope::Attempt => {
                let current = context::current();
                (vec![current.run.id, current.attempt.number.to_string()], wit::IdempotencyScope::Attempt)
            }
            Scope::Global => (Vec::new(), wit::IdempotencyScope::Global),
        };
        wit::Idempotency {
            key: hash(&self.key, &suffix),
            ttl_ms: self.ttl.map(time::milliseconds),
            user_key: Some(self.key.clone()),
            scope: Some(scope),
        }
    }
}

fn hash(key: &str, suffix: &[String]) -> String {
    let parts: Vec<&str> = std::iter::once(key).chain(suffix.iter().map(String::as_str)).collect();
    let digest = Sha256::digest(parts.join("-").as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{IdempotencyKey, hash};

    #[test]
    fn a_key_is_hashed_as_other_sdks_hash_it() {
        assert_eq!(hash("abc", &[]), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash("a", &["b".into(), "1".into()]), hash("a-b-1", &[]));
        let global = IdempotencyKey::global("abc").to_wit();
        assert_eq!((global.key, global.user_key.as_deref()), (hash("abc", &[]), Some("abc")));
    }
}
