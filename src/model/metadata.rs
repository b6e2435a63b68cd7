//! Changes to a run's metadata object. Source: facts G1, 7.3.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
        value: Map<String, Value>,
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

/// Why an operation cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metadata key {key:?} {reason}")]
pub struct BadKey {
    /// The key.
    pub key: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Longest key or path, in characters.
const MAX_KEY_CHARS: usize = 1024;
/// An array is not filled up with nulls beyond this index.
const MAX_INDEX: usize = 10_000;
/// Names that would reach into the objects of JavaScript clients.
const FORBIDDEN: [&str; 3] = ["__proto__", "constructor", "prototype"];

impl Operation {
    /// Applies the operation. What is in the way of a path (a number where an object should be) is replaced.
    ///
    /// # Errors
    /// [`BadKey`] if the key is too long, is not a path though it begins like one, or names what clients must not set.
    pub fn apply(&self, object: &mut Map<String, Value>) -> Result<(), BadKey> {
        match self {
            Operation::Set { key, value } => *place(object, key)? = value.clone(),
            Operation::Delete { key } => {
                object.shift_remove(key);
            }
            Operation::Append { key, value } => match place(object, key)? {
                Value::Array(items) => items.push(value.clone()),
                slot @ Value::Null => *slot = Value::Array(vec![value.clone()]),
                slot => *slot = Value::Array(vec![slot.take(), value.clone()]),
            },
            Operation::Remove { key, value } => {
                if let Some(Value::Array(items)) = look(object, key)? {
                    items.retain(|item| item != value);
                }
            }
            Operation::Increment { key, value } => {
                let slot = place(object, key)?;
                *slot = number(slot.as_f64().unwrap_or(0.0) + value);
            }
            Operation::Update { value } => *object = value.clone(),
        }
        Ok(())
    }
}

/// A whole number stays one, so that clients do not see `3.0`.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT { Value::from(value as i64) } else { Value::from(value) }
}

enum Step {
    Name(String),
    Index(usize),
}

/// The steps of a key: one name, or those of a path such as `$.a.b[0]['c d']`.
fn steps(key: &str) -> Result<Vec<Step>, BadKey> {
    let bad = |reason| BadKey { key: key.chars().take(100).collect(), reason };
    if key.chars().count() > MAX_KEY_CHARS {
        return Err(bad("is too long"));
    }
    let Some(path) = key.strip_prefix("$.") else { return Ok(vec![Step::Name(allowed(key).ok_or(bad("is not allowed"))?)]) };
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, mut brackets) = part.split_at(part.find('[').unwrap_or(part.len()));
        match name.parse::<usize>() {
            Ok(index) if !steps.is_empty() && index <= MAX_INDEX => steps.push(Step::Index(index)),
            _ if name.is_empty() => return Err(bad("has an empty step")),
            _ => steps.push(Step::Name(allowed(name).ok_or(bad("is not allowed"))?)),
        }
        while let Some(rest) = brackets.strip_prefix('[') {
            let (inside, after) = rest.split_once(']').ok_or(bad("has an open bracket"))?;
            steps.push(match inside.parse::<usize>() {
                Ok(index) if index <= MAX_INDEX => Step::Index(index),
                _ => Step::Name(allowed(inside.trim_matches(['\'', '"'])).ok_or(bad("is not allowed"))?),
            });
            brackets = after;
        }
        if !brackets.is_empty() {
            return Err(bad("has text after a bracket"));
        }
    }
    Ok(steps)
}

fn allowed(name: &str) -> Option<String> {
    (!FORBIDDEN.contains(&name)).then(|| name.to_owned())
}

/// The value at the key, made (as null, in new objects and arrays) if it is not there.
fn place<'a>(object: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Value, BadKey> {
    let mut steps = steps(key)?.into_iter();
    let Some(Step::Name(first)) = steps.next() else { unreachable!("the first step of a key is a name") };
    let mut value = object.entry(first).or_insert(Value::Null);
    for step in steps {
        value = match step {
            // A number names a key where there is an object already.
            Step::Index(index) if value.is_object() => {
                value.as_object_mut().expect("just seen").entry(index.to_string()).or_insert(Value::Null)
            }
            Step::Index(index) => {
                if !value.is_array() {
                    *value = Value::Array(Vec::new());
                }
                let items = value.as_array_mut().expect("just made");
                if items.len() <= index {
                    items.resize(index + 1, Value::Null);
                }
                &mut items[index]
            }
            Step::Name(name) => {
                if !value.is_object() {
                    *value = Value::Object(Map::new());
                }
                value.as_object_mut().expect("just made").entry(name).or_insert(Value::Null)
            }
        };
    }
    Ok(value)
}

/// The value at the key, if there is one.
fn look<'a>(object: &'a mut Map<String, Value>, key: &str) -> Result<Option<&'a mut Value>, BadKey> {
    let mut steps = steps(key)?.into_iter();
    let Some(Step::Name(first)) = steps.next() else { unreachable!("the first step of a key is a name") };
    let mut value = object.get_mut(&first);
    for step in steps {
        value = match (value, step) {
            (Some(Value::Array(items)), Step::Index(index)) => items.get_mut(index),
            (Some(Value::Object(map)), Step::Index(index)) => map.get_mut(&index.to_string()),
            (Some(Value::Object(map)), Step::Name(name)) => map.get_mut(&name),
            _ => None,
        };
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn after(start: Value, operations: &[Value]) -> Result<Value, BadKey> {
        let Value::Object(mut object) = start else { panic!("metadata is an object") };
        for operation in operations {
            let operation: Operation = serde_json::from_value(operation.clone()).unwrap();
            operation.apply(&mut object)?;
        }
        Ok(Value::Object(object))
    }

    #[test]
    fn each_operation_does_what_its_client_expects() {
        let start = json!({"n": 1, "list": [1, {"a": 2}, 1], "one": "x", "deep": {"k": {"v": 1}}});
        for (operation, expected) in [
            (json!({"type": "set", "key": "n", "value": 2}), json!({"n": 2})),
            (json!({"type": "set", "key": "a.b", "value": 2}), json!({"a.b": 2})),
            (json!({"type": "append", "key": "list", "value": 3}), json!({"list": [1, {"a": 2}, 1, 3]})),
            (json!({"type": "append", "key": "new", "value": 3}), json!({"new": [3]})),
            (json!({"type": "append", "key": "one", "value": 3}), json!({"one": ["x", 3]})),
            (json!({"type": "remove", "key": "list", "value": {"a": 2}}), json!({"list": [1, 1]})),
            (json!({"type": "remove", "key": "one", "value": "x"}), json!({"one": "x"})),
            (json!({"type": "increment", "key": "n", "value": 2}), json!({"n": 3})),
            (json!({"type": "increment", "key": "n", "value": -0.5}), json!({"n": 0.5})),
            (json!({"type": "increment", "key": "new", "value": 2}), json!({"new": 2})),
            (json!({"type": "set", "key": "$.deep.k.v", "value": 9}), json!({"deep": {"k": {"v": 9}}})),
            (json!({"type": "set", "key": "$.made.list[1].x", "value": 9}), json!({"made": {"list": [null, {"x": 9}]}})),
            (json!({"type": "append", "key": "$.deep['k']", "value": 1}), json!({"deep": {"k": [{"v": 1}, 1]}})),
            (json!({"type": "remove", "key": "$.list.9.x", "value": 1}), json!({})),
        ] {
            let mut whole = start.clone();
            whole.as_object_mut().unwrap().extend(expected.as_object().unwrap().clone());
            assert_eq!(after(start.clone(), std::slice::from_ref(&operation)), Ok(whole), "{operation}");
        }
        assert_eq!(after(start.clone(), &[json!({"type": "update", "value": {"z": 1}})]), Ok(json!({"z": 1})));
        assert_eq!(after(json!({"a": 1, "$.b": 2}), &[json!({"type": "delete", "key": "a"})]), Ok(json!({"$.b": 2})));
    }

    #[test]
    fn keys_that_reach_into_javascript_objects_and_broken_paths_are_refused() {
        for key in ["__proto__", "$.a.constructor", "$.a['prototype']", "$.", "$.a..b", "$.a[0", "$.a[0]b", &"k".repeat(1025)] {
            assert!(after(json!({}), &[json!({"type": "set", "key": key, "value": 1})]).is_err(), "{key}");
        }
    }
}
