//! Tokens: waitpoints that anyone who holds their id may complete.

use chrono::{DateTime, Utc};

use super::{id::WaitpointId, waitpoint::Idempotency};

/// Most tags a token or a run may have. Source: facts A19.
pub const MAX_TAGS: usize = 10;
/// Longest tag, in characters. Source: facts A19.
pub const MAX_TAG_CHARS: usize = 128;

/// What a new token shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewToken {
    /// When it times out; none: never. Source: facts F5.
    pub timeout_at: Option<DateTime<Utc>>,
    /// The same key gets the same token. Source: facts F6.
    pub idempotency: Option<Idempotency>,
    /// At most [`MAX_TAGS`] of 1 to [`MAX_TAG_CHARS`] characters.
    pub tags: Vec<String>,
}

/// A token that was made, or found by its idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHandle {
    /// The waitpoint.
    pub id: WaitpointId,
    /// An earlier call with the same key made it.
    pub is_cached: bool,
    /// A POST to this address completes the token with the body.
    pub callback_url: String,
    /// Lets a browser complete this token and nothing else, for 24 hours.
    pub public_access_token: String,
}
