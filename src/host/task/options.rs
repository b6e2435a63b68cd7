//! What a run that a guest triggers has to be. Each error names the argument, the limit and the fix. Source: facts A1-A31.

use serde_json::{Map, Value};

use super::{
    check,
    wit::types::{self, TriggerOptions},
};
use crate::{
    host::HostError,
    model::{
        batch::{Draft, Item, MAX_ITEMS, Refusal},
        error::ErrorCode,
        limit::MAX_SHARED,
        machine::Machine,
        payload::{MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES},
        trigger::{MAX_ATTEMPTS, NewRun, RunIdempotency},
    },
};

/// Longest id of a task, name of a queue, concurrency key and version, in characters.
const MAX_NAME_CHARS: usize = 128;
/// Most bytes of payloads and metadata in one batch of a guest: they are copied at once.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

/// The run that a guest wants to trigger.
///
/// # Errors
/// An argument breaks a rule, or this version does not know what it asks for.
pub fn run(task: String, payload: types::Packet, options: TriggerOptions) -> Result<NewRun, HostError> {
    check_task("task", &task)?;
    let mut new = NewRun::of(task, check::packet("payload", payload)?);
    absent(&options)?;
    new.idempotency = idempotency(options.idempotency)?;
    new.delay_until = options.delay.map(|delay| check::moment("options.delay", delay)).transpose()?;
    for (argument, duration) in [("options.ttl-ms", options.ttl_ms), ("options.max-duration-ms", options.max_duration_ms)] {
        duration.map(|duration| check::after(argument, duration)).transpose()?;
    }
    (new.ttl_ms, new.max_duration_ms) = (options.ttl_ms, options.max_duration_ms);
    if let Some(queue) = options.queue {
        let known = |letter: char| letter.is_ascii_alphanumeric() || "_-/".contains(letter);
        if queue.is_empty() || queue.len() > MAX_NAME_CHARS || !queue.chars().all(known) {
            return Err(HostError::invalid(format!("options.queue takes 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 _ - /")));
        }
        new.queue = Some(queue);
    }
    for (argument, text) in [("options.concurrency-key", &options.concurrency_key), ("options.version", &options.version)] {
        text.as_deref().map(|text| check_name(argument, text)).transpose()?;
    }
    (new.concurrency_key, new.version) = (options.concurrency_key, options.version);
    if let Some(names) = options.concurrency_limits {
        if names.len() > MAX_SHARED {
            return Err(HostError::invalid(format!("options.concurrency-limits takes at most {MAX_SHARED} names")));
        }
        names.iter().try_for_each(|name| check_name("options.concurrency-limits", name))?;
        new.concurrency_limits = Some(names);
    }
    new.priority_ms = i64::from(options.priority.unwrap_or(0)) * 1000;
    new.tags = check::tags(options.tags)?;
    new.metadata = metadata(options.metadata)?;
    if let Some(most) = options.max_attempts.filter(|most| !(1..=MAX_ATTEMPTS).contains(most)) {
        return Err(HostError::invalid(format!("options.max-attempts is {most}; it takes 1 to {MAX_ATTEMPTS}")));
    }
    new.max_attempts = options.max_attempts;
    new.machine = options.machine.map(|machine| preset(&machine)).transpose()?;
    new.is_test = options.is_test.unwrap_or(false);
    Ok(new)
}

/// 1 to 1000 items of a batch. One that breaks a rule is an item that cannot be triggered, not an error.
///
/// # Errors
/// There are too few, too many or too large ones in all, or one has no task that could be named.
pub fn items(given: Vec<types::BatchItem>) -> Result<Vec<Item>, HostError> {
    if given.is_empty() {
        return Err(HostError::invalid(format!("items is empty; it takes 1 to {MAX_ITEMS}")));
    }
    if given.len() > MAX_ITEMS {
        let count = given.len();
        return Err(HostError::too_large(format!("items has {count} elements; it takes 1 to {MAX_ITEMS}: make several batches")));
    }
    let metadata = |item: &types::BatchItem| item.options.metadata.as_ref().map_or(0, String::len);
    let bytes: usize = given.iter().map(|item| item.payload.data.len() + metadata(item)).sum();
    if bytes > MAX_BATCH_BYTES {
        return Err(HostError::too_large(format!(
            "items has {bytes} bytes of payloads and metadata; the most is {MAX_BATCH_BYTES}: make several batches"
        )));
    }
    (0..).zip(given).map(|(index, given)| item(index, given)).collect()
}

fn item(index: u32, given: types::BatchItem) -> Result<Item, HostError> {
    let types::BatchItem { task, payload, options } = given;
    check_task(&format!("items[{index}].task"), &task)?;
    let bytes = payload.data.len();
    let draft = if bytes > MAX_PAYLOAD_BYTES {
        let message = format!("the payload has {bytes} bytes, more than {MAX_PAYLOAD_BYTES}");
        Draft::Refused(Refusal { code: ErrorCode::PayloadTooLarge, message })
    } else {
        run(task.clone(), payload, options).map_or_else(
            |error| Draft::Refused(Refusal { code: ErrorCode::BatchItemCouldNotTrigger, message: error.message }),
            |new| Draft::Run(Box::new(new)),
        )
    };
    Ok(Item { index, task, draft })
}

/// An idempotency key of a run or a batch, with what the user made it of.
///
/// # Errors
/// The key is empty or too long, or counts for more than 100 years.
pub fn idempotency(given: Option<types::Idempotency>) -> Result<Option<RunIdempotency>, HostError> {
    let made_of = given.as_ref().map(|given| (given.user_key.clone(), given.scope));
    let Some((checked, (shown, scope))) = check::idempotency(given)?.zip(made_of) else { return Ok(None) };
    if shown.as_ref().is_some_and(|shown| shown.chars().count() > check::MAX_KEY_CHARS || shown.contains('\0')) {
        let most = check::MAX_KEY_CHARS;
        return Err(HostError::invalid(format!("idempotency.user-key takes at most {most} characters, none of them NUL")));
    }
    let scope = scope.map(|scope| match scope {
        types::IdempotencyScope::Run => "run",
        types::IdempotencyScope::Attempt => "attempt",
        types::IdempotencyScope::Global => "global",
    });
    Ok(Some(RunIdempotency { key: checked.key, shown, scope: scope.map(str::to_owned), ttl_ms: checked.ttl_ms }))
}

/// What would be ignored is refused: a run that is not debounced when it should be is worse than none.
fn absent(options: &TriggerOptions) -> Result<(), HostError> {
    let asked = [
        ("options.debounce", options.debounce.is_some()),
        ("options.external-deployment-id", options.external_deployment_id.is_some()),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(HostError::not_in_this_version(name)),
        None => Ok(()),
    }
}

fn check_task(argument: &str, task: &str) -> Result<(), HostError> {
    check_name(argument, task)
}

fn check_name(argument: &str, text: &str) -> Result<(), HostError> {
    let length = text.chars().count();
    if length == 0 || length > MAX_NAME_CHARS || text.contains('\0') {
        return Err(HostError::invalid(format!(
            "{argument} has {length} characters; it takes 1 to {MAX_NAME_CHARS}, none of them NUL"
        )));
    }
    Ok(())
}

fn metadata(text: Option<String>) -> Result<Map<String, Value>, HostError> {
    let Some(text) = text else { return Ok(Map::new()) };
    if text.len() > MAX_METADATA_BYTES {
        return Err(HostError::too_large(format!(
            "options.metadata has {} bytes; the most is {MAX_METADATA_BYTES}: keep large values elsewhere",
            text.len()
        )));
    }
    serde_json::from_str(&text).map_err(|error| HostError::invalid(format!("options.metadata is no JSON object: {error}")))
}

fn preset(name: &str) -> Result<Machine, HostError> {
    Machine::parse(name).ok_or_else(|| {
        let presets = Machine::ALL.map(Machine::as_str).join(", ");
        HostError::invalid(format!("options.machine is {name:?}; it takes one of {presets}"))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::host::HostErrorCode;

    /// Options that leave everything to the task.
    pub(crate) fn none() -> TriggerOptions {
        TriggerOptions {
            idempotency: None,
            delay: None,
            ttl_ms: None,
            debounce: None,
            queue: None,
            concurrency_key: None,
            concurrency_limits: None,
            priority: None,
            tags: Vec::new(),
            metadata: None,
            max_attempts: None,
            max_duration_ms: None,
            machine: None,
            region: None,
            version: None,
            external_deployment_id: None,
            is_test: None,
        }
    }

    fn packet(bytes: usize) -> types::Packet {
        types::Packet { data: vec![b'1'; bytes], content_type: "application/json".into() }
    }

    fn refusal(options: TriggerOptions) -> HostError {
        run("task".into(), packet(1), options).unwrap_err()
    }

    #[test]
    fn every_option_reaches_the_run() {
        let idempotency = types::Idempotency {
            key: "hash".into(),
            ttl_ms: Some(60_000),
            user_key: Some("mine".into()),
            scope: Some(types::IdempotencyScope::Attempt),
        };
        let options = TriggerOptions {
            idempotency: Some(idempotency),
            delay: Some(types::Moment::After(60_000)),
            ttl_ms: Some(0),
            queue: Some("mail/fast".into()),
            concurrency_key: Some("user 1".into()),
            priority: Some(-3),
            tags: vec!["a".into(), "a".into()],
            metadata: Some(r#"{"b":1,"a":2}"#.into()),
            max_attempts: Some(250),
            max_duration_ms: Some(0),
            machine: Some("micro".into()),
            version: Some("20260101.1".into()),
            is_test: Some(true),
            ..none()
        };
        let new = run("task".into(), packet(1), options).unwrap();
        let key = new.idempotency.unwrap();
        assert_eq!((key.key.as_str(), key.shown.as_deref(), key.scope.as_deref()), ("hash", Some("mine"), Some("attempt")));
        assert_eq!((new.ttl_ms, new.max_duration_ms, new.priority_ms, new.max_attempts), (Some(0), Some(0), -3000, Some(250)));
        assert_eq!((new.queue.as_deref(), new.concurrency_key.as_deref()), (Some("mail/fast"), Some("user 1")));
        assert_eq!((new.tags.len(), new.machine, new.is_test), (1, Some(Machine::Micro), true));
        assert_eq!(new.metadata.keys().collect::<Vec<_>>(), ["b", "a"]);
        assert!(new.delay_until.unwrap() > chrono::Utc::now() && new.version.is_some());
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (options, says) in [
            (TriggerOptions { queue: Some("a b".into()), ..none() }, "options.queue takes 1 to 128 of A-Z"),
            (TriggerOptions { concurrency_key: Some(String::new()), ..none() }, "options.concurrency-key has 0 characters"),
            (TriggerOptions { version: Some("\0".into()), ..none() }, "options.version has 1 characters"),
            (TriggerOptions { max_attempts: Some(251), ..none() }, "options.max-attempts is 251"),
            (TriggerOptions { machine: Some("huge".into()), ..none() }, "options.machine is \"huge\"; it takes one of micro"),
            (TriggerOptions { metadata: Some("[]".into()), ..none() }, "options.metadata is no JSON object"),
            (TriggerOptions { ttl_ms: Some(u64::MAX), ..none() }, "options.ttl-ms is 18446744073709551615 ms"),
        ] {
            let error = refusal(options);
            assert!(error.code == HostErrorCode::Invalid && error.message.starts_with(says), "{error}");
        }
        let large = TriggerOptions { metadata: Some("x".repeat(MAX_METADATA_BYTES + 1)), ..none() };
        assert_eq!(refusal(large).code, HostErrorCode::TooLarge);
        let later = TriggerOptions { external_deployment_id: Some("x".into()), ..none() };
        assert_eq!(refusal(later).code, HostErrorCode::Unavailable);
        let error = run(String::new(), packet(1), none()).unwrap_err();
        assert!(error.message.starts_with("task has 0 characters"), "{error}");
    }

    #[test]
    fn a_batch_is_bounded_and_a_wrong_item_is_none_of_its_faults() {
        let item = |bytes, options| types::BatchItem { task: "task".into(), payload: packet(bytes), options };
        let wrong = TriggerOptions { max_attempts: Some(0), ..none() };
        let made = items(vec![item(1, none()), item(1, wrong), item(MAX_PAYLOAD_BYTES + 1, none())]).unwrap();
        assert!(matches!(made[0].draft, Draft::Run(_)) && made[2].index == 2);
        let code = |item: &Item| match &item.draft {
            Draft::Refused(refusal) => refusal.code,
            Draft::Run(_) => panic!("{item:?}"),
        };
        assert_eq!(code(&made[1]), ErrorCode::BatchItemCouldNotTrigger);
        assert_eq!(code(&made[2]), ErrorCode::PayloadTooLarge);
        let refused = |given| items(given).unwrap_err();
        assert_eq!(refused(Vec::new()).code, HostErrorCode::Invalid);
        assert_eq!(refused((0..1001).map(|_| item(0, none())).collect()).code, HostErrorCode::TooLarge);
        let large = refused((0..6).map(|_| item(MAX_PAYLOAD_BYTES, none())).collect());
        assert!(large.code == HostErrorCode::TooLarge && large.message.contains("several batches"), "{large}");
        let nameless = types::BatchItem { task: String::new(), payload: packet(1), options: none() };
        assert!(refused(vec![item(1, none()), nameless]).message.starts_with("items[1].task has 0 characters"));
    }
}
