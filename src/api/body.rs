//! Reads bodies: never more than a limit, and what is wrong with them is said field by field.

use axum::{body::Body, http::HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Error;

/// Most bytes of a body over its limit that are read and thrown away, so that a client which writes before it reads gets to
/// see the refusal instead of a broken connection.
const PATIENCE_BYTES: u64 = 512 << 20;

/// The whole body.
///
/// # Errors
/// 413 if it is larger than `limit` bytes, 400 if it breaks off.
pub(super) async fn read(headers: &HeaderMap, body: Body, what: &'static str, limit: u64) -> Result<Bytes, Error> {
    let too_large = || Error::TooLarge { what, limit, unit: "bytes" };
    let announced = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit.saturating_add(PATIENCE_BYTES)) {
        return Err(too_large());
    }
    let mut chunks = body.into_data_stream();
    let fits = announced.is_none_or(|length| length <= limit);
    let mut bytes = Vec::with_capacity(announced.filter(|_| fits).unwrap_or(0) as usize);
    let mut seen = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Error::body("", "the body broke off"))?;
        seen += chunk.len() as u64;
        if fits && seen <= limit {
            bytes.extend_from_slice(&chunk);
        } else if seen > limit.saturating_add(PATIENCE_BYTES) {
            return Err(too_large());
        } else {
            bytes = Vec::new();
        }
    }
    if seen > limit { Err(too_large()) } else { Ok(bytes.into()) }
}

/// The body as JSON; an empty one is an empty object, for clients send a JSON content type without a body.
///
/// # Errors
/// 413 as [`read`]; 400 that names the field that is not what it should be.
pub(super) async fn read_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    what: &'static str,
    limit: u64,
) -> Result<T, Error> {
    let bytes = read(headers, body, what, limit).await?;
    parse(if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &bytes })
}

/// An object of JSON.
///
/// # Errors
/// 400 that names the field that is not what it should be.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // The reader would take a list for an object, field by field.
    if bytes.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
        return Err(Error::body("", "must be an object, not a list"));
    }
    // axum's own reader is used because it names the field.
    axum::Json::<T>::from_bytes(bytes).map(|axum::Json(value)| value).map_err(|rejection| {
        let text = rejection.body_text();
        let text =
            text.split_once("target type: ").or_else(|| text.split_once("as JSON: ")).map_or(text.as_str(), |(_, rest)| rest);
        match text.split_once(": ") {
            Some((path, message)) if !path.contains(' ') => Error::body(path, message),
            _ => Error::body("", text),
        }
    })
}

/// A value that is kept as it was written. Unlike an `Option` of it, this tells `null` from nothing.
pub(super) fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// A text, or a number that is taken as its text.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a number")]
pub(super) enum TextOrNumber {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
}

impl TextOrNumber {
    pub(super) fn into_text(self) -> String {
        match self {
            TextOrNumber::Text(text) => text,
            TextOrNumber::Number(number) => number.to_string(),
        }
    }
}

/// One text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(super) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::{Issue, Part};

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[serde(default, deserialize_with = "written")]
        payload: Option<Box<RawValue>>,
        #[serde(default)]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[serde(default)]
        tags: Option<OneOrMany>,
        #[serde(default)]
        number: Option<u32>,
    }

    fn issue(text: &str) -> Issue {
        match parse::<Outer>(text.as_bytes()) {
            Err(Error::Malformed { part: Part::Body, mut issues }) => issues.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named() {
        assert_eq!(issue(r#"{"inner":{"number":"x"}}"#).path, ["inner", "number"]);
        assert!(issue(r#"{"inner":{"number":"x"}}"#).message.contains("expected u32"));
        assert_eq!(issue(r#"{"inner":{"tags":5}}"#).path, ["inner", "tags"]);
        assert!(issue(r#"{"inner":{"tags":5}}"#).message.contains("a string or a list of strings"));
        assert!(issue("{broken").message.contains("line 1"));
        assert!(issue("[]").path.is_empty());
    }

    #[test]
    fn null_is_a_payload_and_nothing_is_none_and_numbers_keep_their_digits() {
        let payload = |text: &str| parse::<Outer>(text.as_bytes()).unwrap().payload.map(|raw| raw.get().to_owned());
        assert_eq!(payload("{}"), None);
        assert_eq!(payload(r#"{"payload":null}"#).as_deref(), Some("null"));
        assert_eq!(
            payload(r#"{"payload":{"n":12345678901234567890.123}}"#).as_deref(),
            Some(r#"{"n":12345678901234567890.123}"#)
        );
        let outer: Outer = parse(br#"{"inner":{"tags":"a","number":1}}"#).unwrap();
        let inner = outer.inner.unwrap();
        assert_eq!((inner.tags.unwrap().into_vec(), inner.number), (vec!["a".to_owned()], Some(1)));
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_read_to_its_end_and_refused() {
        let chunks = futures_util::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1000]))));
        let body = Body::from_stream(chunks);
        let refused = read(&HeaderMap::new(), body, "The body", 99_999).await;
        assert!(matches!(refused, Err(Error::TooLarge { limit: 99_999, .. })), "{refused:?}");
        let exact = read(&HeaderMap::new(), Body::from(vec![0; 10]), "The body", 10).await.unwrap();
        assert_eq!(exact.len(), 10);
    }
}
