//! Changes to a run's metadata object. Source: facts G1, 7.3.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One change, in the shape of the HTTP API. A key that begins with `$.` is a JSON path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Operation {
    /// Put a value at the key.
    Set {
        /// Top-level key or JSON path.
        key: String,
        /// Any JSON.
        value: Value,
    },
    /// Remove the key.
    Delete {
        /// Top-level key.
        key: String,
    },
    /// Add to the array at the key, which is made, or wrapped around a single value, as needed.
    Append {
        /// Top-level key or JSON path.
        key: String,
        /// Any JSON.
        value: Value,
    },
    /// Remove the elements of the array at the key that equal the value.
    Remove {
        /// Top-level key or JSON path.
        key: String,
        /// Any JSON.
        value: Value,
    },
    /// Add to the number at the key; a missing one counts as 0.
    Increment {
        /// Top-level key or JSON path.
        key: String,
        /// Negative to decrement.
        value: f64,
    },
    /// Put another object in place of the whole.
    Update {
        /// The object.
        value: serde_json::Map<String, Value>,
    },
}

/// Whose metadata a guest changes. A run without parent or root is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The run itself.
    This,
    /// Its parent.
    Parent,
    /// The root of its tree.
    Root,
}
