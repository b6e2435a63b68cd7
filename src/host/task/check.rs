//! What a guest's arguments have to be. Each error names the argument, the limit and the fix.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::wit::types;
use crate::{
    host::HostError,
    model::{
        id::{RunId, WaitpointId},
        payload::{MAX_PAYLOAD_BYTES, Packet, STORE},
        stream::{InputCursor, MAX_KEY_CHARS as MAX_KEY_CHARS_OF_STREAM},
        token::{MAX_TAG_CHARS, MAX_TAGS},
        waitable::Waitable,
        waitpoint::Idempotency,
    },
    wall_clock,
};

/// How far ahead an instant may be: 100 years, in milliseconds.
pub const MAX_AHEAD_MS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;
/// Longest idempotency key, in characters. Source: facts A9.
pub const MAX_KEY_CHARS: usize = 2048;
/// Longest content type, in characters.
pub const MAX_CONTENT_TYPE_CHARS: usize = 128;
/// Most things one wait may be for.
pub const MAX_WAITABLES: usize = 1000;

/// The instant that is `duration` away.
///
/// # Errors
/// It is more than 100 years away.
pub fn after(argument: &str, duration: types::DurationMs) -> Result<DateTime<Utc>, HostError> {
    if duration > MAX_AHEAD_MS {
        return Err(HostError::invalid(format!(
            "{argument} is {duration} ms; the longest is {MAX_AHEAD_MS} ms (100 years): use a shorter one"
        )));
    }
    // Both fit: 100 years of milliseconds in an i64, and 100 years from now in the calendar.
    Ok(wall_clock::now() + TimeDelta::milliseconds(duration as i64))
}

/// The instant `at`.
///
/// # Errors
/// It is more than 100 years away.
pub fn at(argument: &str, at: types::TimestampMs) -> Result<DateTime<Utc>, HostError> {
    let limit = wall_clock::now() + TimeDelta::milliseconds(MAX_AHEAD_MS as i64);
    let instant = i64::try_from(at).ok().and_then(DateTime::from_timestamp_millis).filter(|instant| *instant <= limit);
    instant.ok_or_else(|| {
        HostError::invalid(format!(
            "{argument} is {at}, more than 100 years away: give milliseconds since 1970, not micro- or nanoseconds"
        ))
    })
}

/// The instant that `moment` says.
///
/// # Errors
/// It is more than 100 years away.
pub fn moment(argument: &str, moment: types::Moment) -> Result<DateTime<Utc>, HostError> {
    match moment {
        types::Moment::After(duration) => after(argument, duration),
        types::Moment::At(instant) => at(argument, instant),
    }
}

/// An idempotency key with its time to live.
///
/// # Errors
/// The key is empty or too long, or counts for more than 100 years.
pub fn idempotency(given: Option<types::Idempotency>) -> Result<Option<Idempotency>, HostError> {
    let Some(types::Idempotency { key, ttl_ms, .. }) = given else { return Ok(None) };
    let length = key.chars().count();
    if length == 0 || length > MAX_KEY_CHARS || key.contains('\0') {
        return Err(HostError::invalid(format!(
            "idempotency.key has {length} characters; it takes 1 to {MAX_KEY_CHARS}, none of them NUL: send a hash of longer keys"
        )));
    }
    if let Some(ttl) = ttl_ms {
        after("idempotency.ttl-ms", ttl)?;
    }
    Ok(Some(Idempotency { key, ttl_ms }))
}

/// The key of a stream.
///
/// # Errors
/// It is empty or too long.
pub fn stream(argument: &str, key: String) -> Result<String, HostError> {
    let length = key.chars().count();
    if length == 0 || length > MAX_KEY_CHARS_OF_STREAM || key.contains('\0') {
        return Err(HostError::invalid(format!(
            "{argument} has {length} characters; it takes 1 to {MAX_KEY_CHARS_OF_STREAM}, none of them NUL: use a shorter one"
        )));
    }
    Ok(key)
}

/// A place in an input stream.
///
/// # Errors
/// The name of the stream is empty or too long.
pub fn cursor(argument: &str, cursor: types::InputCursor) -> Result<InputCursor, HostError> {
    Ok(InputCursor { stream: stream(&format!("{argument}.stream-id"), cursor.stream_id)?, after: cursor.after })
}

/// How long a call may stay.
///
/// # Errors
/// It is more than 100 years.
pub fn timeout(argument: &str, timeout: types::DurationMs) -> Result<Duration, HostError> {
    after(argument, timeout)?;
    Ok(Duration::from_millis(timeout))
}

/// The id of a run.
///
/// # Errors
/// It is not one.
pub fn run(argument: &str, text: &str) -> Result<RunId, HostError> {
    text.parse().map_err(|error| HostError::invalid(format!("{argument} is {error}: use the id that a trigger returned")))
}

/// The id of a waitpoint.
///
/// # Errors
/// It is not one.
pub fn waitpoint(argument: &str, text: &str) -> Result<WaitpointId, HostError> {
    text.parse().map_err(|error| HostError::invalid(format!("{argument} is {error}: use the id that made it returned")))
}

/// The ids of 1 to 1000 things that can be waited for.
///
/// # Errors
/// There are too few or too many, or one is not such an id.
pub fn waitables(texts: &[String]) -> Result<Vec<Waitable>, HostError> {
    if texts.is_empty() {
        return Err(HostError::invalid(format!("waitables is empty; it takes 1 to {MAX_WAITABLES}")));
    }
    if texts.len() > MAX_WAITABLES {
        return Err(HostError::too_large(format!(
            "waitables has {} elements; it takes 1 to {MAX_WAITABLES}: wait for fewer at a time",
            texts.len()
        )));
    }
    let parse = |(place, text): (usize, &String)| {
        text.parse()
            .map_err(|error| HostError::invalid(format!("waitables[{place}] is {error}: use the id that made it returned")))
    };
    texts.iter().enumerate().map(parse).collect()
}

/// Tags without repetitions.
///
/// # Errors
/// There are too many, or one is empty or too long.
pub fn tags(given: Vec<String>) -> Result<Vec<String>, HostError> {
    let mut tags: Vec<String> = Vec::new();
    for tag in given {
        let length = tag.chars().count();
        if length == 0 || length > MAX_TAG_CHARS || tag.contains('\0') {
            return Err(HostError::invalid(format!(
                "a tag has {length} characters; it takes 1 to {MAX_TAG_CHARS}, none of them NUL"
            )));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        if tags.len() > MAX_TAGS {
            return Err(HostError::too_large(format!("tags has more than {MAX_TAGS} elements: leave some out")));
        }
    }
    Ok(tags)
}

/// A value that the guest sends.
///
/// # Errors
/// It is too large, or its content type is not for guests.
pub fn packet(argument: &str, packet: types::Packet) -> Result<Packet, HostError> {
    let types::Packet { data, content_type } = packet;
    if data.len() > MAX_PAYLOAD_BYTES {
        return Err(HostError::too_large(format!(
            "{argument}.data has {} bytes; the most is {MAX_PAYLOAD_BYTES}: store it elsewhere and send where",
            data.len()
        )));
    }
    let length = content_type.chars().count();
    if length == 0 || length > MAX_CONTENT_TYPE_CHARS || content_type.chars().any(char::is_control) {
        return Err(HostError::invalid(format!(
            "{argument}.content-type has {length} characters; it takes 1 to {MAX_CONTENT_TYPE_CHARS}, such as application/json"
        )));
    }
    if content_type == STORE {
        return Err(HostError::invalid(format!("{argument}.content-type is {STORE}: send the value itself")));
    }
    Ok(Packet { data, content_type })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostErrorCode;

    #[test]
    fn instants_are_bounded_and_never_overflow() {
        assert!(after("duration", MAX_AHEAD_MS).is_ok());
        for duration in [MAX_AHEAD_MS + 1, u64::MAX] {
            let error = after("duration", duration).unwrap_err();
            assert_eq!(error.code, HostErrorCode::Invalid);
            assert!(error.message.contains("100 years"), "{error}");
        }
        assert!(at("at", 0).unwrap() < Utc::now());
        for instant in [u64::MAX, i64::MAX as u64, 1_800_000_000_000_000] {
            assert!(at("at", instant).unwrap_err().message.starts_with(&format!("at is {instant}, more")));
        }
    }

    #[test]
    fn tags_are_deduplicated_before_they_are_counted() {
        let ten = || (0..10).map(|n| n.to_string());
        assert_eq!(tags(ten().chain(ten()).collect()).unwrap().len(), 10);
        assert_eq!(tags(ten().chain(["x".into()]).collect()).unwrap_err().code, HostErrorCode::TooLarge);
        assert_eq!(tags(vec![String::new()]).unwrap_err().code, HostErrorCode::Invalid);
        assert!(tags(vec!["é".repeat(128)]).is_ok());
        assert!(tags(vec!["é".repeat(129)]).is_err());
    }

    #[test]
    fn waitables_are_named_by_their_place() {
        let good = WaitpointId::new().to_string();
        assert_eq!(waitables(std::slice::from_ref(&good)).unwrap().len(), 1);
        let error = waitables(&[good.clone(), "waitpoint_x".into()]).unwrap_err();
        assert!(error.message.starts_with("waitables[1] is not the id of a waitpoint, a run or a batch"), "{error}");
        assert_eq!(waitables(&[]).unwrap_err().code, HostErrorCode::Invalid);
        assert_eq!(waitables(&vec![good; 1001]).unwrap_err().code, HostErrorCode::TooLarge);
        let run = crate::model::id::RunId::new();
        assert_eq!(waitables(&[run.to_string()]), Ok(vec![Waitable::Run(run)]));
    }

    #[test]
    fn keys_and_packets_are_held_to_their_limits() {
        let key =
            |length| idempotency(Some(types::Idempotency { key: "k".repeat(length), ttl_ms: None, user_key: None, scope: None }));
        assert!(key(1).is_ok() && key(2048).is_ok() && key(0).is_err() && key(2049).is_err());
        let value = |bytes, content_type: &str| {
            packet("value", types::Packet { data: vec![0; bytes], content_type: content_type.into() })
        };
        assert!(value(MAX_PAYLOAD_BYTES, "application/octet-stream").is_ok());
        assert_eq!(value(MAX_PAYLOAD_BYTES + 1, "text/plain").unwrap_err().code, HostErrorCode::TooLarge);
        assert!(value(0, STORE).unwrap_err().message.contains("send the value itself"));
        assert!(value(0, "").is_err());
    }
}
