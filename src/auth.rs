//! Keys, signed tokens and what they allow. Pure: no database, no HTTP.
//!
//! A secret key names one environment and opens all of it. A public token is a JWT that anyone with the secret key can sign
//! (the SDK does, on its own), so the key's UTF-8 bytes are the HMAC key. Source: facts 2.2, 2.3, 7.4.

use chrono::{DateTime, Duration, Utc};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::model::{
    context::EnvironmentKind,
    id::{EnvironmentId, WaitpointId},
};

/// `iss` of every token.
pub const ISSUER: &str = "https://id.trigger.dev";
/// `aud` of every token.
pub const AUDIENCE: &str = "https://api.trigger.dev";

const KEY_BODY: usize = 40;
/// As long as the clients expect it of an additional key. Source: facts 1.
const ADDITIONAL_KEY_BODY: usize = 24;

/// A new secret key of an environment: `tr_dev_` and 40 random letters and digits (238 bits).
pub fn new_secret_key(kind: EnvironmentKind) -> SecretString {
    format!("tr_{}_{}", kind.slug(), letters_and_digits(KEY_BODY)).into()
}

/// A new additional key of an environment: `tr_dev_sk_` and 24 random letters and digits (143 bits).
pub fn new_additional_key(kind: EnvironmentKind) -> SecretString {
    format!("tr_{}_sk_{}", kind.slug(), letters_and_digits(ADDITIONAL_KEY_BODY)).into()
}

fn letters_and_digits(count: usize) -> String {
    let mut random = rand::rng();
    std::iter::repeat_with(|| random.sample(rand::distr::Alphanumeric) as char).take(count).collect()
}

/// Whether this can be a secret key at all, an environment's own or an additional one.
pub fn is_secret_key(key: &str) -> bool {
    let additional = |body: &str| body.len() == ADDITIONAL_KEY_BODY && body.bytes().all(|byte| byte.is_ascii_alphanumeric());
    environment_kind(key).is_some()
        || EnvironmentKind::ALL.iter().any(|kind| key.strip_prefix(&format!("tr_{}_sk_", kind.slug())).is_some_and(additional))
}

/// The kind of environment a root key says it is for; `None` for what is not a root key. Source: facts N2.
pub fn environment_kind(key: &str) -> Option<EnvironmentKind> {
    let (slug, body) = key.strip_prefix("tr_")?.split_once('_')?;
    let well_formed = body.len() >= 16 && body.chars().all(|c| c.is_ascii_alphanumeric());
    EnvironmentKind::from_slug(slug).filter(|_| well_formed)
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub fn is_same(given: &str, expected: &SecretString) -> bool {
    given.as_bytes().ct_eq(expected.expose_secret().as_bytes()).into()
}

/// What a public token says. Source: facts 2.2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The environment.
    pub sub: String,
    /// Always true: what tells a public token from others.
    #[serde(rename = "pub")]
    pub public: bool,
    /// What it allows; see [`allows`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// What subscribers do not get to see; carried over to the tokens that a call with this one yields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime: Option<Realtime>,
    /// Good for one call.
    #[serde(default, rename = "otu", skip_serializing_if = "std::ops::Not::not")]
    pub one_time_use: bool,
    /// [`ISSUER`].
    pub iss: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// Signed at, in seconds since 1970.
    pub iat: i64,
    /// Void from, in seconds since 1970.
    pub exp: i64,
}

/// The `realtime` claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Realtime {
    /// Columns that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_columns: Vec<String>,
}

impl Claims {
    /// A token of `environment` that allows `scopes` from `now` for `lifetime`.
    pub fn new(environment: EnvironmentId, scopes: Vec<String>, now: DateTime<Utc>, lifetime: Duration) -> Claims {
        Claims {
            sub: environment.to_string(),
            public: true,
            scopes,
            realtime: None,
            one_time_use: false,
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            iat: now.timestamp(),
            exp: (now + lifetime).timestamp(),
        }
    }

    /// The token. Its header is exactly `{"alg":"HS256"}`, as the clients' own.
    pub fn sign(&self, key: &SecretString) -> String {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = None;
        let key = EncodingKey::from_secret(key.expose_secret().as_bytes());
        jsonwebtoken::encode(&header, self, &key).expect("claims are plain JSON and HMAC takes any key")
    }

    /// The environment an unverified token names, if it is a public token at all: whose key to verify it with.
    pub fn environment(token: &str) -> Option<EnvironmentId> {
        #[derive(Deserialize)]
        struct Unverified {
            sub: String,
            #[serde(rename = "pub")]
            public: bool,
        }
        let claims: Unverified = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
        claims.sub.parse().ok().filter(|_| claims.public)
    }

    /// The claims of a token that one of these keys signed, as [`Claims::verify`].
    pub fn verify_any<'k>(
        token: &str,
        keys: impl IntoIterator<Item = &'k SecretString>,
    ) -> Result<Claims, jsonwebtoken::errors::Error> {
        let mut refused = jsonwebtoken::errors::Error::from(jsonwebtoken::errors::ErrorKind::InvalidSignature);
        for key in keys {
            match Claims::verify(token, key) {
                Ok(claims) => return Ok(claims),
                // What is wrong with a token that is signed as it should be says more than that other keys did not sign it.
                Err(error) if *error.kind() == jsonwebtoken::errors::ErrorKind::InvalidSignature => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The claims of a token, if `key` signed it, it is for us and has not expired.
    pub fn verify(token: &str, key: &SecretString) -> Result<Claims, jsonwebtoken::errors::Error> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.leeway = 0;
        let key = DecodingKey::from_secret(key.expose_secret().as_bytes());
        Ok(jsonwebtoken::decode::<Claims>(token, &key, &validation)?.claims)
    }
}

/// Whether one of `scopes` allows `action` on one of `resources`, each a type and perhaps an id. Source: facts 2.3.
///
/// A scope is `action[:type[:id]]`; the id may contain colons. Bare `admin` allows everything, action `*` every action, type
/// `all` every type, and a scope without an id every id.
pub fn allows(scopes: &[String], action: &str, resources: &[(&str, Option<&str>)]) -> bool {
    scopes.iter().any(|scope| {
        let mut parts = scope.splitn(3, ':');
        let (verb, kind, id) = (parts.next(), parts.next(), parts.next());
        if scope == "admin" {
            return true;
        }
        if verb != Some(action) && verb != Some("*") {
            return false;
        }
        resources.iter().any(|(resource, wanted)| {
            let kind_matches = kind.is_none_or(|kind| kind == *resource || kind == "all");
            kind_matches && id.is_none_or(|id| Some(id) == *wanted)
        })
    })
}

/// Whether a scope allows `action` on anything of this type.
pub fn could_allow(scope: &str, action: &str, kind: &str) -> bool {
    let id = scope.splitn(3, ':').nth(2);
    allows(std::slice::from_ref(&scope.to_owned()), action, &[(kind, id)])
}

/// The last part of a token's callback address: who knows it may complete the token without any key. Source: facts 7.4.
pub fn callback_hash(waitpoint: WaitpointId, key: &SecretString) -> String {
    hex::encode(callback_mac(waitpoint, key).finalize().into_bytes())
}

/// The address that completes a token without any key; `public_url` is the API's, without a slash at the end.
pub fn callback_url(public_url: &str, waitpoint: WaitpointId, key: &SecretString) -> String {
    format!("{public_url}/api/v1/waitpoints/tokens/{waitpoint}/callback/{}", callback_hash(waitpoint, key))
}

/// Whether `hash` is the [`callback_hash`] of the waitpoint.
pub fn is_callback_hash(hash: &str, waitpoint: WaitpointId, key: &SecretString) -> bool {
    hex::decode(hash).is_ok_and(|bytes| callback_mac(waitpoint, key).verify_slice(&bytes).is_ok())
}

fn callback_mac(waitpoint: WaitpointId, key: &SecretString) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(waitpoint.to_string().as_bytes());
    mac
}

/// What an address of the blob store ends with that may be used with this method until it expires, in seconds since 1970.
pub fn address_signature(method: &str, address: &str, expires: i64, key: &SecretString) -> String {
    hex::encode(address_mac(method, address, expires, key).finalize().into_bytes())
}

/// Whether `signature` is the [`address_signature`].
pub fn is_address_signature(signature: &str, method: &str, address: &str, expires: i64, key: &SecretString) -> bool {
    hex::decode(signature).is_ok_and(|bytes| address_mac(method, address, expires, key).verify_slice(&bytes).is_ok())
}

fn address_mac(method: &str, address: &str, expires: i64, key: &SecretString) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()).expect("HMAC takes keys of any length");
    // The first word keeps it apart from what else is signed with the key; no part but the address can hold a space.
    mac.update(format!("address {method} {expires} {address}").as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};

    fn key() -> SecretString {
        new_secret_key(EnvironmentKind::Development)
    }

    fn claims() -> Claims {
        let now = Utc::now();
        Claims::new(EnvironmentId::new(), vec!["read:runs:run_1".into()], now, Duration::hours(1))
    }

    #[test]
    fn a_new_key_names_its_environment_and_is_not_mistaken_for_an_additional_key() {
        for kind in EnvironmentKind::ALL {
            let key = new_secret_key(kind);
            assert_eq!(environment_kind(key.expose_secret()), Some(kind));
            assert!(!key.expose_secret().contains("_sk_"));
            let additional = new_additional_key(kind);
            assert!(is_secret_key(key.expose_secret()) && is_secret_key(additional.expose_secret()));
            assert_eq!(environment_kind(additional.expose_secret()), None, "it is no root key");
            assert_eq!(additional.expose_secret().len(), format!("tr_{}_sk_", kind.slug()).len() + 24);
        }
        for text in
            ["", "tr_dev_", "tr_dev_short", "tr_live_0123456789abcdef", "sk_0123456789abcdef", "tr_dev_sk_0123456789abcdef"]
        {
            assert_eq!(environment_kind(text), None, "{text}");
            assert!(!is_secret_key(text), "{text}");
        }
    }

    #[test]
    fn a_token_counts_if_any_of_the_keys_signed_it() {
        let (old, new, claims) = (key(), key(), claims());
        assert_eq!(Claims::verify_any(&claims.sign(&old), [&new, &old]).unwrap(), claims);
        let expired = Claims { exp: Utc::now().timestamp() - 1, ..claims.clone() }.sign(&old);
        let refused = Claims::verify_any(&expired, [&old, &new]).unwrap_err();
        assert_eq!(*refused.kind(), jsonwebtoken::errors::ErrorKind::ExpiredSignature);
        assert!(Claims::verify_any(&claims.sign(&key()), [&new, &old]).is_err());
        assert!(Claims::verify_any(&claims.sign(&old), []).is_err());
    }

    #[test]
    fn a_token_has_the_header_the_clients_write_and_verifies_with_its_key_only() {
        let (key, claims) = (key(), claims());
        let token = claims.sign(&key);
        let header = BASE64.decode(token.split('.').next().unwrap()).unwrap();
        assert_eq!(header, br#"{"alg":"HS256"}"#);
        assert_eq!(Claims::verify(&token, &key).unwrap(), claims);
        assert_eq!(Claims::environment(&token), claims.sub.parse().ok());
        assert!(Claims::verify(&token, &self::key()).is_err());
    }

    #[test]
    fn a_token_that_expired_or_is_for_someone_else_is_refused() {
        let key = key();
        let expired = Claims { exp: Utc::now().timestamp() - 1, ..claims() };
        let elsewhere = Claims { aud: "https://example.com".into(), ..claims() };
        let stranger = Claims { iss: "https://example.com".into(), ..claims() };
        for claims in [expired, elsewhere, stranger] {
            assert!(Claims::verify(&claims.sign(&key), &key).is_err(), "{claims:?}");
        }
    }

    #[test]
    fn a_token_without_a_signature_or_with_another_algorithm_is_refused() {
        let (key, claims) = (key(), claims());
        let body = BASE64.encode(serde_json::to_vec(&claims).unwrap());
        let none = format!("{}.{body}.", BASE64.encode(br#"{"alg":"none"}"#));
        assert!(Claims::verify(&none, &key).is_err());
        let other = jsonwebtoken::encode(
            &Header::new(Algorithm::HS512),
            &claims,
            &EncodingKey::from_secret(key.expose_secret().as_bytes()),
        );
        assert!(Claims::verify(&other.unwrap(), &key).is_err());
    }

    #[test]
    fn scopes_are_read_as_the_grammar_says() {
        let can = |scope: &str, action: &str, resource: (&str, Option<&str>)| allows(&[scope.into()], action, &[resource]);
        assert!(can("read:runs:run_1", "read", ("runs", Some("run_1"))));
        assert!(!can("read:runs:run_1", "read", ("runs", Some("run_2"))));
        assert!(!can("read:runs:run_1", "read", ("runs", None)));
        assert!(can("read:runs", "read", ("runs", Some("run_2"))));
        assert!(!can("read:runs", "write", ("runs", Some("run_2"))));
        assert!(can("*:runs", "write", ("runs", None)));
        assert!(can("read:all", "read", ("deployments", None)));
        assert!(can("admin", "trigger", ("tasks", Some("a"))));
        assert!(!can("admin:x", "trigger", ("tasks", Some("a"))));
        assert!(can("read:tags:user:1", "read", ("tags", Some("user:1"))));
        assert!(allows(&["read:tags:b".into()], "read", &[("runs", Some("run_1")), ("tags", Some("a")), ("tags", Some("b"))]));
        assert!(!allows(&[], "read", &[("runs", None)]));
    }

    #[test]
    fn a_scope_could_allow_something_if_it_does_for_one_id() {
        assert!(could_allow("read:runs:run_1", "read", "runs") && could_allow("read:runs", "read", "runs"));
        assert!(could_allow("admin", "write", "runs") && could_allow("*:all", "write", "runs"));
        assert!(!could_allow("read:runs:run_1", "write", "runs") && !could_allow("read:tasks", "read", "runs"));
        assert!(!could_allow("", "read", "runs"));
    }

    #[test]
    fn an_address_is_signed_for_one_method_and_one_time() {
        let key = key();
        let signature = address_signature("PUT", "/a", 5, &key);
        assert!(is_address_signature(&signature, "PUT", "/a", 5, &key));
        for (method, address, expires) in [("GET", "/a", 5), ("PUT", "/b", 5), ("PUT", "/a", 6)] {
            assert!(!is_address_signature(&signature, method, address, expires, &key));
        }
        assert!(!is_address_signature(&signature, "PUT", "/a", 5, &self::key()));
        assert!(!is_address_signature("zz", "PUT", "/a", 5, &key));
    }

    #[test]
    fn a_callback_hash_opens_its_own_waitpoint_only() {
        let (key, token) = (key(), WaitpointId::new());
        let hash = callback_hash(token, &key);
        assert!(is_callback_hash(&hash, token, &key));
        assert!(!is_callback_hash(&hash, WaitpointId::new(), &key));
        assert!(!is_callback_hash(&hash[2..], token, &key));
        assert!(!is_callback_hash("zz", token, &key));
    }
}
