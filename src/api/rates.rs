//! How often an environment may ask: a token bucket for requests and one for the items of batches, each off unless the server is
//! told a rate. A public token has a window of its own, whoever asks with it: what pages do is no part of what the environment's
//! backend may. Source: facts B7, 4.4, V.
//!
//! A bucket is in the memory of one process, so each process of the API counts by itself, and a restart fills it. It is asked once
//! the key is known, so nobody can empty that of another. What is refused is told when to come again in `x-ratelimit-reset`, in
//! milliseconds since 1970 as the clients read it, and in `retry-after`, in seconds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, request::Parts},
    middleware::Next,
    response::Response,
};
use chrono::Utc;

use super::Error;
use crate::{
    config::{Limits, Rate, TokenRate},
    model::id::EnvironmentId,
};

/// Paths that are not counted. Source: facts 4.4. Uploads are: they fill a disk.
const FREE: [&str; 2] = ["/api/v1/auth/jwt/claims", "/api/v1/packets/{path}"];
/// Buckets above which those that are full are forgotten: a new one would be full, too.
const MANY: usize = 10_000;

/// The buckets of all environments, and the windows of all tokens.
#[derive(Debug)]
pub(super) struct Rates {
    requests: Option<Buckets>,
    tokens: Option<Windows>,
    items: Option<Buckets>,
}

impl Rates {
    pub(super) fn new(limits: &Limits) -> Rates {
        let tokens = match limits.token_rate {
            TokenRate::Off => None,
            TokenRate::Window { requests, length } => Some(Windows { requests, length, of: Mutex::default() }),
        };
        Rates { requests: limits.api_rate.map(Buckets::of), tokens, items: limits.batch_rate.map(Buckets::of) }
    }

    /// Counts a request with a secret key, and notes for its answer where the bucket stands.
    pub(super) fn count(&self, environment: EnvironmentId, parts: &Parts) -> Result<(), Error> {
        self.requests.as_ref().map_or(Ok(()), |buckets| note(parts, || buckets.take(environment, 1, Instant::now())))
    }

    /// The same with a public token that is good.
    pub(super) fn count_token(&self, token: &str, environment: EnvironmentId, parts: &Parts) -> Result<(), Error> {
        match &self.tokens {
            Some(windows) => note(parts, || windows.take(*blake3::hash(token.as_bytes()).as_bytes(), Instant::now())),
            None => self.count(environment, parts),
        }
    }

    /// Counts the items of a batch that is to be made.
    pub(super) fn count_items(&self, environment: EnvironmentId, items: u32) -> Result<(), Error> {
        self.items.as_ref().map_or(Ok(()), |buckets| buckets.take(environment, items, Instant::now()).admits("batch items"))
    }
}

/// Counts a request if its path is counted, and notes for its answer what that came to.
fn note(parts: &Parts, take: impl FnOnce() -> Standing) -> Result<(), Error> {
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if !path.starts_with("/api/") || FREE.contains(&path) {
        return Ok(());
    }
    let standing = take();
    if let Some(note) = parts.extensions.get::<Note>() {
        // Counted once, also where an extractor is used by another.
        let _ = note.0.set(standing);
    }
    standing.admits("requests")
}

/// Where a request's answer finds what its bucket came to.
#[derive(Debug, Clone, Default)]
struct Note(Arc<OnceLock<Standing>>);

/// Puts where the bucket stands into the answers of counted requests.
pub(super) async fn tell(mut request: Request, next: Next) -> Response {
    let note = Note::default();
    request.extensions_mut().insert(note.clone());
    let mut response = next.run(request).await;
    if let Some(standing) = note.0.get() {
        for (name, value) in standing.headers() {
            response.headers_mut().entry(name).or_insert(value);
        }
    }
    response
}

/// Where a bucket stands after somebody asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What a full bucket holds.
    limit: u32,
    /// What is left.
    remaining: u32,
    /// Not let in; after this long, the same would be. Let in: how long until the bucket is full.
    is_refused: bool,
    reset: Duration,
}

impl Standing {
    fn admits(self, of: &'static str) -> Result<(), Error> {
        if self.is_refused { Err(Error::RateLimited { of, standing: self }) } else { Ok(()) }
    }

    /// For people.
    pub(super) fn describe(self, of: &str) -> String {
        let Standing { limit, remaining, reset, .. } = self;
        format!("Rate limit exceeded: {remaining} of {limit} {of} remain; ask again in {} seconds", seconds(reset))
    }

    /// As the clients read it, with the time to come again of a refusal.
    pub(super) fn headers(self) -> Vec<(HeaderName, HeaderValue)> {
        let reset_at = Utc::now().timestamp_millis() + self.reset.as_millis() as i64;
        let mut headers = vec![
            ("x-ratelimit-limit", i64::from(self.limit)),
            ("x-ratelimit-remaining", i64::from(self.remaining)),
            ("x-ratelimit-reset", reset_at),
        ];
        if self.is_refused {
            headers.push(("retry-after", seconds(self.reset) as i64));
        }
        headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from(value))).collect()
    }
}

/// Whole seconds, and never too few.
fn seconds(span: Duration) -> u64 {
    span.as_millis().div_ceil(1000) as u64
}

#[derive(Debug)]
struct Buckets {
    rate: Rate,
    of: Mutex<HashMap<EnvironmentId, Bucket>>,
}

/// So much was in it then.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Buckets {
    fn of(rate: Rate) -> Buckets {
        Buckets { rate, of: Mutex::default() }
    }

    /// Takes so many tokens if they are there. Whoever needs more than a bucket holds gets them from a full one, which then owes the
    /// rest: refused for ever would be worse.
    fn take(&self, environment: EnvironmentId, tokens: u32, now: Instant) -> Standing {
        let Rate { burst, per_second } = self.rate;
        let mut buckets = self.of.lock().expect("no code panics while it holds this lock");
        let filled = |bucket: &Bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.tokens + passed * per_second).min(f64::from(burst))
        };
        if buckets.len() >= MANY {
            buckets.retain(|_, bucket| filled(bucket) < f64::from(burst));
        }
        let before = buckets.get(&environment).map_or(f64::from(burst), filled);
        let missing = f64::from(tokens.min(burst)) - before;
        let is_refused = missing > 0.0;
        let after = if is_refused { before } else { before - f64::from(tokens) };
        buckets.insert(environment, Bucket { tokens: after, at: now });
        let to_wait = if is_refused { missing } else { f64::from(burst) - after };
        Standing {
            limit: burst,
            remaining: after.max(0.0) as u32,
            is_refused,
            reset: Duration::try_from_secs_f64(to_wait / per_second).unwrap_or(Duration::MAX).min(Duration::from_secs(86_400)),
        }
    }
}

/// How often each token has asked since its window began.
#[derive(Debug)]
struct Windows {
    requests: u32,
    length: Duration,
    of: Mutex<HashMap<[u8; 32], Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    asked: u32,
}

impl Windows {
    /// Counts one more, unless there are enough: what is refused does not count.
    fn take(&self, token: [u8; 32], now: Instant) -> Standing {
        let mut windows = self.of.lock().expect("no code panics while it holds this lock");
        let left = |window: &Window| self.length.saturating_sub(now.saturating_duration_since(window.began));
        if windows.len() >= MANY && windows.len() == windows.capacity() {
            windows.retain(|_, window| !left(window).is_zero());
        }
        let window = windows.entry(token).or_insert(Window { began: now, asked: 0 });
        if left(window).is_zero() {
            *window = Window { began: now, asked: 0 };
        }
        let is_refused = window.asked >= self.requests;
        window.asked += u32::from(!is_refused);
        Standing { limit: self.requests, remaining: self.requests - window.asked, is_refused, reset: left(window) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_asks_so_often_in_a_window_that_begins_with_its_first_request() {
        let windows = Windows { requests: 2, length: Duration::from_secs(60), of: Mutex::default() };
        let begin = Instant::now();
        let take = |token: u8, secs| windows.take([token; 32], begin + Duration::from_secs(secs));
        assert_eq!((take(1, 0).remaining, take(1, 10).remaining), (1, 0));
        let refused = take(1, 50);
        assert_eq!((refused.is_refused, refused.remaining, refused.reset.as_secs()), (true, 0, 10));
        assert!(!take(2, 50).is_refused, "another token has its own");
        assert_eq!((take(1, 60).is_refused, take(1, 60).is_refused, take(1, 60).is_refused), (false, false, true));
        for other in 0..2 * MANY as u32 {
            let mut token = [0; 32];
            token[..4].copy_from_slice(&other.to_le_bytes());
            windows.take(token, begin + Duration::from_secs(60 * u64::from(other)));
        }
        assert!(windows.of.lock().unwrap().len() < 2 * MANY, "those whose window is over are forgotten");
    }

    #[test]
    fn a_bucket_lets_in_a_burst_and_then_so_many_each_second() {
        let buckets = Buckets::of(Rate { burst: 3, per_second: 2.0 });
        let (one, other, begin) = (EnvironmentId::new(), EnvironmentId::new(), Instant::now());
        let after = |ms: u64| begin + Duration::from_millis(ms);
        let let_in: Vec<bool> = (0..4).map(|_| !buckets.take(one, 1, begin).is_refused).collect();
        assert_eq!(let_in, [true, true, true, false]);
        let refused = buckets.take(one, 1, after(100));
        assert_eq!((refused.remaining, refused.is_refused, refused.reset.as_millis()), (0, true, 400));
        assert!(!buckets.take(other, 1, after(100)).is_refused, "another environment has its own");
        assert!(!buckets.take(one, 1, after(500)).is_refused, "then it was to come again");
        let full = buckets.take(one, 1, after(60_000));
        assert_eq!((full.remaining, full.is_refused), (2, false), "no more than a burst is ever in it");
    }

    #[test]
    fn more_than_a_bucket_holds_comes_from_a_full_one_and_is_owed() {
        let buckets = Buckets::of(Rate { burst: 100, per_second: 10.0 });
        let (one, begin) = (EnvironmentId::new(), Instant::now());
        assert!(!buckets.take(one, 1000, begin).is_refused);
        assert!(buckets.take(one, 1, begin + Duration::from_secs(90)).is_refused);
        assert!(!buckets.take(one, 1, begin + Duration::from_secs(91)).is_refused);
    }
}
