//! Values of users: what goes into a run, comes out of it, or completes a token.

use serde::{Deserialize, Serialize};

/// The content type of plain JSON.
pub const JSON: &str = "application/json";
/// The content type of a string that is not quoted.
pub const TEXT: &str = "text/plain";
/// The content type of superjson: `{"json":…,"meta"?:…}`.
pub const SUPER_JSON: &str = "application/super+json";
/// The content type of a reference into the object store; never reaches a guest.
pub const STORE: &str = "application/store";

/// Largest payload of a trigger and value of a token, in bytes. Source: facts V, 4.5.
pub const MAX_PAYLOAD_BYTES: usize = 3 * 1024 * 1024;
/// Largest metadata object, in bytes of JSON text. Source: facts A20, G5.
pub const MAX_METADATA_BYTES: usize = 256 * 1024;
/// Largest output a run may return, in bytes. Source: facts L3.
pub const MAX_OUTPUT_BYTES: usize = 10 * 1024 * 1024;

/// Largest payload that is put into the blob store before its run is triggered, in bytes.
pub const MAX_STORED_BYTES: usize = 10 * 1024 * 1024;

/// A value with its encoding, carried unchanged from whoever made it to whoever reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The encoded value. Empty with content type `application/json` means "no value".
    pub data: Vec<u8>,
    /// Compared exactly, without parameters.
    pub content_type: String,
}

impl Packet {
    /// A JSON value.
    pub fn json(value: &serde_json::Value) -> Packet {
        Packet { data: value.to_string().into_bytes(), content_type: JSON.into() }
    }

    /// No value (JavaScript's `undefined`).
    pub fn empty() -> Packet {
        Packet { data: Vec::new(), content_type: JSON.into() }
    }

    /// The value as the HTTP API shows it: plain JSON, superjson reduced to its `json`, text as a string. `None` if there is
    /// no value. Bytes that are not what their type says are shown as text. Source: facts 5, 7.3.
    pub fn to_plain_json(&self) -> Option<serde_json::Value> {
        if self.data.is_empty() && self.content_type != TEXT {
            return None;
        }
        let text = || serde_json::Value::String(String::from_utf8_lossy(&self.data).into_owned());
        match self.content_type.as_str() {
            JSON => Some(serde_json::from_slice(&self.data).unwrap_or_else(|_| text())),
            SUPER_JSON => match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&self.data) {
                Ok(mut object) => object.shift_remove("json"),
                Err(_) => Some(text()),
            },
            _ => Some(text()),
        }
    }
}

/// A payload whose bytes are a blob: what stands in its place in a run's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPacket {
    /// The blob's digest, 64 characters.
    pub digest: String,
    /// How large it is.
    pub bytes: u64,
    /// The content type of the bytes.
    pub content_type: String,
}

impl StoredPacket {
    /// What a row holds: the digest, the size and the content type, with spaces between.
    pub fn to_packet(&self) -> Packet {
        let StoredPacket { digest, bytes, content_type } = self;
        Packet { data: format!("{digest} {bytes} {content_type}").into_bytes(), content_type: STORE.into() }
    }

    /// The blob that a run's payload names; none if it is not in the blob store.
    pub fn of(packet: &Packet) -> Option<StoredPacket> {
        let text = std::str::from_utf8(&packet.data).ok().filter(|_| packet.content_type == STORE)?;
        let mut words = text.splitn(3, ' ');
        let (digest, bytes, content_type) = (words.next()?, words.next()?, words.next()?);
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes = bytes.parse().ok().filter(|_| is_digest)?;
        Some(StoredPacket { digest: digest.into(), bytes, content_type: content_type.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stored_payload_is_named_by_what_stands_in_its_place() {
        let stored = StoredPacket { digest: "0a".repeat(32), bytes: 7, content_type: "text/plain; charset=utf-8".into() };
        assert_eq!(StoredPacket::of(&stored.to_packet()), Some(stored.clone()));
        let plain = Packet { content_type: TEXT.into(), ..stored.to_packet() };
        assert_eq!(StoredPacket::of(&plain), None);
        for data in ["", "trigger/packet_1/payload.json", "0a 7 text/plain"] {
            assert_eq!(StoredPacket::of(&Packet { data: data.into(), content_type: STORE.into() }), None, "{data}");
        }
    }

    #[test]
    fn each_content_type_is_shown_as_the_client_expects_it() {
        let packet =
            |data: &str, content_type: &str| Packet { data: data.into(), content_type: content_type.into() }.to_plain_json();
        assert_eq!(packet(r#"{"a":1}"#, JSON), Some(json!({"a": 1})));
        assert_eq!(packet("", JSON), None);
        assert_eq!(packet("hi", TEXT), Some(json!("hi")));
        assert_eq!(packet("", TEXT), Some(json!("")));
        assert_eq!(packet(r#"{"json":{"d":"2026"},"meta":{"values":{"d":["Date"]}}}"#, SUPER_JSON), Some(json!({"d": "2026"})));
        assert_eq!(packet("{broken", JSON), Some(json!("{broken")));
    }
}
