//! What a run shows of itself while it runs: a JSON object that callers and the dashboard can watch.
//!
//! ```no_run
//! # use dormouse::metadata;
//! # fn task() -> Result<(), dormouse::TaskError> {
//! metadata::set("status", "packing")?;
//! metadata::increment("boxes", 1.0)?;
//! metadata::append("log", "first box")?;
//! metadata::root().set("child-status", "packing")?;
//! let boxes: Option<u32> = metadata::get("boxes")?;
//! # Ok(()) }
//! ```
//!
//! A key is a top-level name, or a JSON path that begins with `$.`. Changes are seen within a second, and before the run
//! suspends.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::HostError;
use crate::bindings::dormouse::task::metadata::{self as host, KeyNumber, KeyValue, Operation, Target as WitTarget};

/// Whose metadata is changed.
#[derive(Clone, Copy, Debug)]
pub struct Target(WitTarget);

/// The metadata of the run that triggered this one, or of this run if none did.
pub fn parent() -> Target {
    Target(WitTarget::Parent)
}

/// The metadata of the run at the top of the tree, which may be this run.
pub fn root() -> Target {
    Target(WitTarget::Root)
}

const THIS_RUN: Target = Target(WitTarget::ThisRun);

impl Target {
    /// As [`set`].
    ///
    /// # Errors
    /// What the host refuses.
    pub fn set<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Result<(), HostError> {
        self.update(Operation::Set(key_value(key, value)?))
    }

    /// As [`delete`].
    ///
    /// # Errors
    /// What the host refuses.
    pub fn delete(self, key: &str) -> Result<(), HostError> {
        self.update(Operation::Delete(key.into()))
    }

    /// As [`append`].
    ///
    /// # Errors
    /// What the host refuses.
    pub fn append<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Result<(), HostError> {
        self.update(Operation::Append(key_value(key, value)?))
    }

    /// As [`remove`].
    ///
    /// # Errors
    /// What the host refuses.
    pub fn remove<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Result<(), HostError> {
        self.update(Operation::Remove(key_value(key, value)?))
    }

    /// As [`increment`].
    ///
    /// # Errors
    /// What the host refuses.
    pub fn increment(self, key: &str, by: f64) -> Result<(), HostError> {
        self.update(Operation::Increment(KeyNumber { key: key.into(), by }))
    }

    /// As [`replace`].
    ///
    /// # Errors
    /// What the host refuses.
    pub fn replace<T: Serialize + ?Sized>(self, object: &T) -> Result<(), HostError> {
        self.update(Operation::Replace(json(object)?))
    }

    fn update(self, operation: Operation) -> Result<(), HostError> {
        Ok(host::update(self.0, &[operation])?)
    }
}

/// Sets the value at a key.
///
/// # Errors
/// What the host refuses.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), HostError> {
    THIS_RUN.set(key, value)
}

/// Removes a key with its value.
///
/// # Errors
/// What the host refuses.
pub fn delete(key: &str) -> Result<(), HostError> {
    THIS_RUN.delete(key)
}

/// Appends to the array at a key, which is made if there is none.
///
/// # Errors
/// What the host refuses.
pub fn append<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), HostError> {
    THIS_RUN.append(key, value)
}

/// Removes the elements that equal the value from the array at a key.
///
/// # Errors
/// What the host refuses.
pub fn remove<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), HostError> {
    THIS_RUN.remove(key, value)
}

/// Adds to the number at a key, which is 0 if there is none; a negative number takes away.
///
/// # Errors
/// What the host refuses.
pub fn increment(key: &str, by: f64) -> Result<(), HostError> {
    THIS_RUN.increment(key, by)
}

/// Puts another object in the place of the whole metadata.
///
/// # Errors
/// What the host refuses.
pub fn replace<T: Serialize + ?Sized>(object: &T) -> Result<(), HostError> {
    THIS_RUN.replace(object)
}

/// The value at a top-level key, with all changes made so far.
///
/// # Errors
/// What the host refuses, and values that are no `T`.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, HostError> {
    match current()?.remove(key) {
        None => Ok(None),
        Some(value) => {
            serde_json::from_value(value).map_err(|error| HostError::undecodable("the metadata's value", &error)).map(Some)
        }
    }
}

/// The whole object, with all changes made so far.
///
/// # Errors
/// What the host refuses.
pub fn current() -> Result<Map<String, Value>, HostError> {
    let text = host::read()?;
    serde_json::from_str(&text).map_err(|error| HostError::undecodable("the metadata", &error))
}

/// Writes the changes now, and says whether one was dropped since the last flush.
///
/// # Errors
/// What the host refuses.
pub fn flush() -> Result<(), HostError> {
    Ok(host::flush()?)
}

fn key_value<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<KeyValue, HostError> {
    Ok(KeyValue { key: key.into(), value: json(value)? })
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, HostError> {
    serde_json::to_string(value).map_err(|error| HostError::unencodable(&error))
}
