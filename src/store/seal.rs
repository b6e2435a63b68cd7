//! Encrypts values before they reach a row, so that who reads the database, a replica or a backup of it reads none of them.
//!
//! A value is sealed with XChaCha20-Poly1305 under a nonce of its own, drawn at random (24 bytes: no two are ever the same), and
//! bound to what it belongs to: moved to another row, it does not open. The id of the key stands beside it, so that keys can be
//! changed: the current one seals, and every one that the server is given opens. Keys come from the server's settings and are
//! never stored in the database. What is used is derived from them, so a setting may have further uses one day.
//!
//! ```text
//! sealed = nonce (24 bytes) ‖ ciphertext (as long as the value) ‖ tag (16 bytes)
//! ```

use std::{fmt, sync::Arc};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Bytes of a key's id; it is written in hexadecimal digits.
const ID_BYTES: usize = 8;

/// Why a value cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server was started without a key.
    #[error("this server has no encryption key")]
    NoKey,
    /// It was sealed with a key that the server was not given.
    #[error("the value is encrypted with the key {0}, which this server was not given")]
    UnknownKey(String),
    /// It is not what was sealed: changed, or of another row.
    #[error("the encrypted value is damaged, or belongs elsewhere")]
    Damaged,
}

/// A text that is no encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an encryption key is {KEY_BYTES} bytes, as 64 hexadecimal digits or in base64; `openssl rand -hex {KEY_BYTES}` makes one"
)]
pub struct BadKey;

/// A sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which key opens it.
    pub key_id: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

/// The keys of a server. Cheap to clone; shows no key when printed.
#[derive(Clone, Default)]
pub struct Keyring(Arc<[Key]>);

struct Key {
    id: String,
    cipher: XChaCha20Poly1305,
}

/// A new key, as a setting holds it.
pub fn new_key() -> SecretString {
    hex::encode(rand::random::<[u8; KEY_BYTES]>()).into()
}

impl Keyring {
    /// The key that seals, and further ones that open what was sealed with them.
    ///
    /// # Errors
    /// [`BadKey`] if one of them is none.
    pub fn new<'k>(current: &SecretString, others: impl IntoIterator<Item = &'k SecretString>) -> Result<Keyring, BadKey> {
        let mut keys = vec![Key::of(current)?];
        for other in others {
            let key = Key::of(other)?;
            if keys.iter().all(|known| known.id != key.id) {
                keys.push(key);
            }
        }
        Ok(Keyring(keys.into()))
    }

    /// The id of the key that seals; none: the server has no key.
    pub fn current(&self) -> Option<&str> {
        self.0.first().map(|key| key.id.as_str())
    }

    /// The ids of all keys.
    pub fn ids(&self) -> Vec<String> {
        self.0.iter().map(|key| key.id.clone()).collect()
    }

    /// Seals a value that belongs to `place`.
    ///
    /// # Errors
    /// [`Error::NoKey`].
    pub fn seal(&self, value: &[u8], place: &[u8]) -> Result<Sealed, Error> {
        let key = self.0.first().ok_or(Error::NoKey)?;
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: value, aad: place };
        let ciphertext =
            key.cipher.encrypt(&XNonce::from(nonce), payload).expect("the cipher takes values of any length we store");
        Ok(Sealed { key_id: key.id.clone(), bytes: [&nonce[..], &ciphertext].concat() })
    }

    /// Opens a value that was sealed for `place`.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] and [`Error::Damaged`].
    pub fn open(&self, sealed: &Sealed, place: &[u8]) -> Result<Vec<u8>, Error> {
        let key = self.0.iter().find(|key| key.id == sealed.key_id);
        let key = key.ok_or_else(|| Error::UnknownKey(sealed.key_id.clone()))?;
        let (nonce, ciphertext) = sealed.bytes.split_first_chunk::<NONCE_BYTES>().ok_or(Error::Damaged)?;
        let payload = Payload { msg: ciphertext, aad: place };
        key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| Error::Damaged)
    }
}

impl Sealed {
    /// How many bytes a sealed value is longer than the value.
    pub const OVERHEAD: usize = NONCE_BYTES + TAG_BYTES;
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.ids()).finish()
    }
}

impl Key {
    fn of(setting: &SecretString) -> Result<Key, BadKey> {
        let master = parse(setting.expose_secret())?;
        let id = hex::encode(&derive(&master, "dormouse: id of an encryption key, 1")[..ID_BYTES]);
        let cipher = XChaCha20Poly1305::new(&derive(&master, "dormouse: encryption of values in rows, 1").into());
        Ok(Key { id, cipher })
    }
}

/// One block of HKDF-Expand: enough, because the setting is as random as a key shall be.
fn derive(master: &[u8; KEY_BYTES], purpose: &str) -> [u8; KEY_BYTES] {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(master).expect("HMAC takes keys of any length");
    mac.update(purpose.as_bytes());
    mac.update(&[1]);
    mac.finalize().into_bytes().into()
}

fn parse(text: &str) -> Result<[u8; KEY_BYTES], BadKey> {
    let text = text.trim();
    if let Ok(bytes) = hex::decode(text) {
        return bytes.try_into().map_err(|_| BadKey);
    }
    let forms = [BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD];
    forms.iter().find_map(|form| form.decode(text).ok()?.try_into().ok()).ok_or(BadKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(keys: &[&SecretString]) -> Keyring {
        Keyring::new(keys[0], keys[1..].iter().copied()).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let keys = keyring(&[&new_key()]);
        let sealed = keys.seal(b"value", b"here").unwrap();
        assert_eq!(keys.open(&sealed, b"here").unwrap(), b"value");
        assert_eq!(keys.open(&sealed, b"there"), Err(Error::Damaged));
        assert_eq!(sealed.bytes.len(), b"value".len() + Sealed::OVERHEAD);
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            changed.bytes[at] ^= 1;
            assert_eq!(keys.open(&changed, b"here"), Err(Error::Damaged), "byte {at}");
        }
        for length in 0..sealed.bytes.len() {
            let cut = Sealed { bytes: sealed.bytes[..length].to_vec(), ..sealed.clone() };
            assert_eq!(keys.open(&cut, b"here"), Err(Error::Damaged), "{length} bytes");
        }
    }

    #[test]
    fn the_same_value_is_never_sealed_the_same() {
        let keys = keyring(&[&new_key()]);
        assert_ne!(keys.seal(b"value", b"here").unwrap(), keys.seal(b"value", b"here").unwrap());
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_still_opens() {
        let (old, new) = (new_key(), new_key());
        let before = keyring(&[&old]).seal(b"value", b"here").unwrap();
        let both = keyring(&[&new, &old, &new]);
        assert_eq!((both.ids().len(), both.current()), (2, keyring(&[&new]).current()));
        assert_eq!(both.open(&before, b"here").unwrap(), b"value");
        let after = both.seal(b"value", b"here").unwrap();
        assert_eq!(keyring(&[&new]).open(&after, b"here").unwrap(), b"value");
        assert_eq!(keyring(&[&new]).open(&before, b"here"), Err(Error::UnknownKey(before.key_id.clone())));
        assert_eq!(Keyring::default().seal(b"value", b"here"), Err(Error::NoKey));
    }

    #[test]
    fn a_key_is_read_as_hexadecimal_digits_or_base64_and_nothing_shorter() {
        let hex = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
        let bytes = hex::decode(hex).unwrap();
        let same = [
            hex.to_owned(),
            format!(" {hex}\n"),
            BASE64_STANDARD.encode(&bytes),
            BASE64_STANDARD_NO_PAD.encode(&bytes),
            BASE64_URL_SAFE.encode(&bytes),
            BASE64_URL_SAFE_NO_PAD.encode(&bytes),
        ];
        let ids: Vec<Vec<String>> = same.into_iter().map(|text| keyring(&[&text.into()]).ids()).collect();
        assert!(ids.iter().all(|id| *id == ids[0] && id[0].len() == 2 * ID_BYTES), "{ids:?}");
        for wrong in ["", "password", &hex[..62], &format!("{hex}00"), &BASE64_STANDARD.encode(&bytes[..31])] {
            assert_eq!(Keyring::new(&wrong.into(), []).err(), Some(BadKey), "{wrong}");
        }
    }

    #[test]
    fn no_key_shows_when_a_keyring_is_printed() {
        let key = new_key();
        let printed = format!("{:?}", keyring(&[&key]));
        assert!(!printed.contains(key.expose_secret()) && printed.contains("Keyring"), "{printed}");
    }
}
