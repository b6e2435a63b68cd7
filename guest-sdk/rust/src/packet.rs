//! Values on their way in and out: JSON, with the other content types that callers send.

use serde::Serialize;
use serde::de::value::{Error as PlainError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::TaskError;
use crate::bindings::dormouse::task::types::Packet;

const JSON: &str = "application/json";
const SUPER_JSON: &str = "application/super+json";
const TEXT: &str = "text/plain";

/// Why a value could not be decoded.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// The bytes are not what the content type says, or do not fit the type.
    Json(serde_json::Error),
    /// A plain text does not fit the type.
    Text(PlainError),
    /// A plain text is not UTF-8.
    Encoding(std::str::Utf8Error),
    /// Nothing but the four types that a Rust task can read.
    ContentType(String),
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Json(error) => error.fmt(f),
            DecodeError::Text(error) => error.fmt(f),
            DecodeError::Encoding(error) => error.fmt(f),
            DecodeError::ContentType(found) => write!(f, "a value of the type {found} cannot be read, only JSON and plain text"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The envelope of `application/super+json`; what `meta` says about dates and maps is left aside.
#[derive(serde::Deserialize)]
struct SuperJson<T> {
    json: T,
}

/// Reads a value. Empty data stands for "no value" and reads as JSON's `null`.
pub(crate) fn decode<T: DeserializeOwned>(packet: &Packet) -> Result<T, DecodeError> {
    let data = if packet.data.is_empty() { b"null".as_slice() } else { packet.data.as_slice() };
    match packet.content_type.as_str() {
        JSON | "" => serde_json::from_slice(data).map_err(DecodeError::Json),
        SUPER_JSON if packet.data.is_empty() => serde_json::from_slice(data).map_err(DecodeError::Json),
        SUPER_JSON => serde_json::from_slice::<SuperJson<T>>(data).map(|envelope| envelope.json).map_err(DecodeError::Json),
        TEXT => {
            let text = std::str::from_utf8(&packet.data).map_err(DecodeError::Encoding)?;
            let text: StrDeserializer<'_, PlainError> = text.into_deserializer();
            T::deserialize(text).map_err(DecodeError::Text)
        }
        other => Err(DecodeError::ContentType(other.into())),
    }
}

/// Reads the payload of a run. A payload that does not fit will not fit the next time either: no retry.
pub fn decode_payload<T: DeserializeOwned>(packet: Packet) -> Result<T, TaskError> {
    decode(&packet).map_err(|error| TaskError::input(&error, packet.data.is_empty()))
}

/// Writes a value as JSON. `()` is no value.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Packet, serde_json::Error> {
    // The name and not the type's id, which would ask for `'static`.
    let data = if std::any::type_name::<T>() == "()" { Vec::new() } else { serde_json::to_vec(value)? };
    Ok(Packet { data, content_type: JSON.into() })
}

/// What a task's function returned. A `Result` is taken apart, everything else is the output itself: inherent methods
/// win over those of traits, so the attribute needs not know which of the two it has.
pub struct Returned<T>(pub T);

impl<T, E> Returned<Result<T, E>> {
    /// The output, or the error as the task's.
    pub fn encode(self) -> Result<Packet, TaskError>
    where
        T: Serialize,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.0 {
            Ok(output) => encode(&output).map_err(|error| TaskError::output(&error)),
            Err(error) => Err(TaskError::returned(error)),
        }
    }
}

/// See [`Returned`].
pub trait Output {
    /// The output.
    fn encode(self) -> Result<Packet, TaskError>;
}

impl<T: Serialize> Output for Returned<T> {
    fn encode(self) -> Result<Packet, TaskError> {
        encode(&self.0).map_err(|error| TaskError::output(&error))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{Output, Returned, decode, encode};
    use crate::TaskError;
    use crate::bindings::dormouse::task::types::{Packet, RunError};

    #[derive(Debug, Deserialize, PartialEq)]
    struct Point {
        x: i32,
    }

    fn packet(content_type: &str, data: &str) -> Packet {
        Packet { data: data.into(), content_type: content_type.into() }
    }

    #[test]
    fn values_are_read_from_every_content_type_that_callers_send() {
        assert_eq!(decode::<Point>(&packet("application/json", r#"{"x":1}"#)).unwrap(), Point { x: 1 });
        assert_eq!(decode::<Point>(&packet("application/super+json", r#"{"json":{"x":2},"meta":{}}"#)).unwrap(), Point { x: 2 });
        assert_eq!(decode::<String>(&packet("text/plain", "héllo")).unwrap(), "héllo");
        assert_eq!(decode::<Option<Point>>(&packet("application/json", "")).unwrap(), None);
        decode::<()>(&packet("application/super+json", "")).unwrap();
    }

    #[test]
    fn values_that_do_not_fit_say_why() {
        let reason = |content_type, data| decode::<Point>(&packet(content_type, data)).unwrap_err().to_string();
        assert!(reason("application/json", "{}").contains("missing field `x`"));
        assert!(reason("text/plain", "hello").contains("invalid type: string"));
        assert!(reason("image/png", "…").contains("image/png"));
    }

    #[test]
    fn no_value_is_no_bytes() {
        assert_eq!(encode(&()).unwrap().data, b"");
        assert_eq!(encode(&None::<u8>).unwrap().data, b"null");
        assert_eq!(Returned(Ok::<_, TaskError>(())).encode().unwrap().data, b"");
        assert_eq!(Returned(()).encode().unwrap().data, b"");
    }

    #[test]
    fn results_are_taken_apart_and_plain_values_are_not() {
        assert_eq!(Returned(3).encode().unwrap().data, b"3");
        assert_eq!(Returned(Ok::<_, String>(3)).encode().unwrap().data, b"3");
        let error = Returned(Err::<u8, _>("no luck")).encode().unwrap_err().into_wit();
        assert!(matches!(error.error, RunError::Exception(chain) if chain.outermost.message == "no luck"));
    }
}
