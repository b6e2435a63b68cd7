//! `dormouse:task/metadata`: what a run shows of itself while it runs.

use serde_json::Value;

use super::{check, wit::metadata};
use crate::{
    host::{HostError, HostState},
    model::{
        metadata::{Operation, Target},
        payload::MAX_METADATA_BYTES,
    },
};

/// Most operations in one call.
const MAX_OPERATIONS: usize = 1000;
/// Longest key or path, in characters.
const MAX_KEY_CHARS: usize = 1024;

impl metadata::Host for HostState {
    async fn read(&mut self) -> Result<String, HostError> {
        Ok(self.acting()?.caller.read_metadata().await?.to_string())
    }

    async fn update(&mut self, target: metadata::Target, operations: Vec<metadata::Operation>) -> Result<(), HostError> {
        let caller = self.acting()?.caller.clone();
        let target = match target {
            metadata::Target::ThisRun => Target::This,
            metadata::Target::Parent => Target::Parent,
            metadata::Target::Root => Target::Root,
        };
        let operations = checked(operations)?;
        caller.update_metadata(target, operations).await
    }

    async fn flush(&mut self) -> Result<(), HostError> {
        self.acting()?.caller.flush().await
    }

    async fn add_tags(&mut self, tags: Vec<String>) -> Result<(), HostError> {
        let caller = self.acting()?.caller.clone();
        caller.add_tags(check::tags(tags)?).await
    }
}

fn checked(operations: Vec<metadata::Operation>) -> Result<Vec<Operation>, HostError> {
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        return Err(HostError::too_large(format!(
            "operations has {count} elements; the most is {MAX_OPERATIONS}: update in several calls"
        )));
    }
    let bytes: usize = operations.iter().map(text_bytes).sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(HostError::too_large(format!(
            "operations has {bytes} bytes of values; metadata takes {MAX_METADATA_BYTES}: keep large values elsewhere"
        )));
    }
    operations.into_iter().enumerate().map(|(place, one)| operation(place, one)).collect()
}

fn text_bytes(operation: &metadata::Operation) -> usize {
    match operation {
        metadata::Operation::Set(pair) | metadata::Operation::Append(pair) | metadata::Operation::Remove(pair) => {
            pair.value.len()
        }
        metadata::Operation::Replace(text) => text.len(),
        metadata::Operation::Delete(_) | metadata::Operation::Increment(_) => 0,
    }
}

fn operation(place: usize, operation: metadata::Operation) -> Result<Operation, HostError> {
    let key = |key: String| {
        let length = key.chars().count();
        if length == 0 || length > MAX_KEY_CHARS {
            return Err(HostError::invalid(format!(
                "operations[{place}] has a key of {length} characters; it takes 1 to {MAX_KEY_CHARS}"
            )));
        }
        Ok(key)
    };
    let value = |text: &str| {
        serde_json::from_str::<Value>(text)
            .map_err(|error| HostError::invalid(format!("operations[{place}] has a value that is not JSON text: {error}")))
    };
    Ok(match operation {
        metadata::Operation::Set(pair) => Operation::Set { key: key(pair.key)?, value: value(&pair.value)? },
        metadata::Operation::Delete(name) => Operation::Delete { key: key(name)? },
        metadata::Operation::Append(pair) => Operation::Append { key: key(pair.key)?, value: value(&pair.value)? },
        metadata::Operation::Remove(pair) => Operation::Remove { key: key(pair.key)?, value: value(&pair.value)? },
        metadata::Operation::Increment(number) if number.by.is_finite() => {
            Operation::Increment { key: key(number.key)?, value: number.by }
        }
        metadata::Operation::Increment(number) => {
            let by = number.by;
            return Err(HostError::invalid(format!("operations[{place}] increments by {by}: use a finite number")));
        }
        metadata::Operation::Replace(text) => match value(&text)? {
            Value::Object(value) => Operation::Update { value },
            _ => return Err(HostError::invalid(format!("operations[{place}] replaces by something that is not an object"))),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostErrorCode;
    use serde_json::json;

    fn set(key: &str, value: &str) -> metadata::Operation {
        metadata::Operation::Set(metadata::KeyValue { key: key.into(), value: value.into() })
    }

    #[test]
    fn operations_are_parsed_and_a_wrong_one_is_named_by_its_place() {
        let good = checked(vec![set("$.a[0]", "[1]"), metadata::Operation::Delete("b".into())]).unwrap();
        assert_eq!(good[0], Operation::Set { key: "$.a[0]".into(), value: json!([1]) });
        let message = |operations| checked(operations).unwrap_err().message;
        assert!(message(vec![set("a", "1"), set("b", "{")]).starts_with("operations[1] has a value that is not JSON"));
        assert!(message(vec![set("", "1")]).contains("takes 1 to 1024"));
        assert!(message(vec![metadata::Operation::Replace("[]".into())]).contains("not an object"));
        let nan = metadata::KeyNumber { key: "n".into(), by: f64::NAN };
        assert!(message(vec![metadata::Operation::Increment(nan)]).contains("finite"));
        let large = set("a", &format!("\"{}\"", "x".repeat(MAX_METADATA_BYTES)));
        assert_eq!(checked(vec![large]).unwrap_err().code, HostErrorCode::TooLarge);
    }
}
