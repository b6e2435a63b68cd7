//! Asking a component what it declares, and holding the answer to the rules.

use std::collections::BTreeSet;

use wasmtime::{AsContextMut, component::Instance};

use super::{
    bindings::{
        Task,
        exports::dormouse::task::tasks::{self, Hooks},
    },
    convert::cut,
};
use crate::{
    host::HostState,
    model::{
        environment::EnvironmentKind,
        limit::{self, MAX_LIMIT_NAME_CHARS},
        machine::Machine,
        queue::{MAX_CONCURRENCY, MAX_QUEUE_NAME_CHARS},
        task::{BundleDefinition, LimitDefinition, QueueDefinition, RetryPolicy, ScheduleDefinition, TaskDefinition, TaskKind},
    },
};

/// Most tasks and most queues of a bundle.
const MAX_DECLARATIONS: usize = 1000;
/// Longest task id: `task/<id>` is its queue's name, which takes 128. Source: facts A15.
const MAX_TASK_ID_CHARS: usize = 123;
/// Most attempts of a run. Source: facts A21.
const MAX_ATTEMPTS: u32 = 250;
/// Least CPU time of an attempt, in milliseconds; smaller values are raised to it. Source: facts A22.
const LEAST_DURATION_MS: u64 = 5000;
/// Longest retry delay and time to live, in milliseconds: a year.
const MAX_TIME_MS: u64 = 365 * 24 * 60 * 60 * 1000;
/// Longest text for people, in characters.
const MAX_TEXT_CHARS: usize = 4096;
/// Largest JSON schema, in bytes.
const MAX_SCHEMA_BYTES: usize = 128 * 1024;

/// Why a component's declaration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// The component does not export `dormouse:task/tasks` of this version.
    #[error("the component exports no tasks")]
    NotABundle(#[source] wasmtime::Error),
    /// `describe` trapped.
    #[error("tasks.describe failed")]
    Trapped(#[source] wasmtime::Error),
    /// What it declares breaks rules: every one, not the first.
    #[error("the bundle's declaration breaks the rules: {}", .0.join("; "))]
    Refused(Vec<String>),
}

/// Calls `tasks.describe` in a fresh instance without a run.
///
/// # Errors
/// See [`DescribeError`].
pub async fn describe(
    mut store: impl AsContextMut<Data = HostState>,
    instance: &Instance,
) -> Result<BundleDefinition, DescribeError> {
    let task = Task::new(&mut store, instance).map_err(DescribeError::NotABundle)?;
    let raw = task.dormouse_task_tasks().call_describe(&mut store).await.map_err(DescribeError::Trapped)?;
    definition(raw).map_err(DescribeError::Refused)
}

/// The declaration as the domain has it.
///
/// # Errors
/// Every rule that it breaks, each with the name of what breaks it.
pub fn definition(raw: tasks::BundleDefinition) -> Result<BundleDefinition, Vec<String>> {
    let mut faults = Vec::new();
    if raw.tasks.is_empty() || raw.tasks.len() > MAX_DECLARATIONS {
        faults.push(format!("the bundle has {} tasks; it takes 1 to {MAX_DECLARATIONS}", raw.tasks.len()));
    }
    if raw.queues.len() > MAX_DECLARATIONS {
        faults.push(format!("the bundle has {} queues; the most is {MAX_DECLARATIONS}", raw.queues.len()));
    }
    if raw.concurrency_limits.len() > MAX_DECLARATIONS {
        faults
            .push(format!("the bundle has {} concurrency limits; the most is {MAX_DECLARATIONS}", raw.concurrency_limits.len()));
    }
    repeated("task", raw.tasks.iter().map(|task| task.id.as_str()), &mut faults);
    repeated("concurrency limit", raw.concurrency_limits.iter().map(|limit| limit.name.as_str()), &mut faults);
    repeated("queue", raw.queues.iter().map(|queue| queue.name.as_str()), &mut faults);
    let sdk = cut(&raw.sdk, MAX_QUEUE_NAME_CHARS);
    let queues = raw.queues.into_iter().take(MAX_DECLARATIONS).map(|queue| queue_definition(queue, &mut faults)).collect();
    let tasks: Vec<_> = raw.tasks.into_iter().take(MAX_DECLARATIONS).map(|task| task_definition(task, &mut faults)).collect();
    let limits = raw.concurrency_limits.into_iter().take(MAX_DECLARATIONS);
    let concurrency_limits: Vec<_> = limits.map(|limit| limit_definition(limit, &tasks, &mut faults)).collect();
    let tasks = tasks.into_iter().map(|task| with_limits(task, &concurrency_limits, &mut faults)).collect();
    if faults.is_empty() { Ok(BundleDefinition { sdk, tasks, queues, concurrency_limits }) } else { Err(faults) }
}

fn repeated<'a>(what: &str, names: impl Iterator<Item = &'a str>, faults: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            faults.push(format!("{what} {name:?} is declared twice: give one another name"));
        }
    }
}

/// Whether a name has 1 to `most` of `A-Z a-z 0-9 _ - /`.
fn is_name(name: &str, most: usize) -> bool {
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '/');
    (1..=most).contains(&name.len()) && name.chars().all(is_allowed)
}

fn queue_definition(queue: tasks::QueueDefinition, faults: &mut Vec<String>) -> QueueDefinition {
    let tasks::QueueDefinition { name, concurrency_limit } = queue;
    check_queue_name(&format!("queue {name:?}"), &name, faults);
    if concurrency_limit.is_some_and(|limit| limit > MAX_CONCURRENCY) {
        faults.push(format!("queue {name:?} has a concurrency limit above {MAX_CONCURRENCY}: lower it or leave it out"));
    }
    QueueDefinition { name, concurrency_limit }
}

fn limit_definition(
    limit: tasks::ConcurrencyLimitDefinition,
    tasks: &[TaskDefinition],
    faults: &mut Vec<String>,
) -> LimitDefinition {
    let tasks::ConcurrencyLimitDefinition { name, total, per_key } = limit;
    let is_own = tasks.iter().any(|task| limit::own_name(&task.id) == name);
    if !is_own && (!is_name(&name, MAX_LIMIT_NAME_CHARS) || name.contains('/')) {
        faults.push(format!(
            "concurrency limit {name:?}: a limit's name is 1 to {MAX_LIMIT_NAME_CHARS} of A-Z a-z 0-9 _ -, or task/ and a task's id"
        ));
    }
    if total.max(per_key).is_some_and(|bound| bound > MAX_CONCURRENCY) {
        faults.push(format!("concurrency limit {name:?} is above {MAX_CONCURRENCY}: lower it or leave it out"));
    }
    LimitDefinition { name, total, per_key }
}

/// The task with its own limit, if the bundle declares one.
fn with_limits(mut task: TaskDefinition, declared: &[LimitDefinition], faults: &mut Vec<String>) -> TaskDefinition {
    let whose = format!("task {:?}", task.id);
    let own = limit::own_name(&task.id);
    let is_declared = |name: &str| declared.iter().any(|limit| limit.name == name);
    if let Some(name) = task.concurrency_limits.iter().find(|name| !is_declared(name)) {
        faults.push(format!("{whose}: the bundle declares no concurrency limit {name:?}"));
    }
    task.concurrency_limits.retain(|name| *name != own);
    if task.concurrency_limits.len() > limit::MAX_SHARED {
        faults.push(format!("{whose}: a task has at most {} shared concurrency limits besides its own", limit::MAX_SHARED));
    }
    if let Some(name) = task.concurrency_limits.iter().find(|name| name.contains('/')) {
        faults.push(format!("{whose}: {name:?} is another task's own concurrency limit"));
    }
    if is_declared(&own) {
        task.concurrency_limits.push(own);
    }
    task
}

fn check_queue_name(whose: &str, name: &str, faults: &mut Vec<String>) {
    if !is_name(name, MAX_QUEUE_NAME_CHARS) {
        faults.push(format!("{whose}: a queue's name is 1 to {MAX_QUEUE_NAME_CHARS} of A-Z a-z 0-9 _ - /"));
    }
}

fn task_definition(task: tasks::TaskDefinition, faults: &mut Vec<String>) -> TaskDefinition {
    let whose = format!("task {:?}", task.id);
    if !is_name(&task.id, MAX_TASK_ID_CHARS) {
        faults.push(format!("{whose}: a task's id is 1 to {MAX_TASK_ID_CHARS} of A-Z a-z 0-9 _ - /"));
    }
    let kind = match task.kind {
        tasks::TaskKind::Standard => TaskKind::Standard,
        tasks::TaskKind::Scheduled => TaskKind::Scheduled,
    };
    if kind == TaskKind::Standard && task.schedule.is_some() {
        faults.push(format!("{whose}: it has a schedule, so its kind must be scheduled"));
    }
    if let Some(queue) = &task.queue {
        check_queue_name(&whose, queue, faults);
    }
    if task.ttl_ms.is_some_and(|ttl| ttl > MAX_TIME_MS) {
        faults.push(format!("{whose}: ttl-ms is more than a year ({MAX_TIME_MS}); 0 is for ever"));
    }
    check_schema(&whose, task.payload_schema.as_deref(), faults);
    TaskDefinition {
        description: task.description.map(|text| cut(&text, MAX_TEXT_CHARS)),
        source: task.source.map(|text| cut(&text, MAX_TEXT_CHARS)),
        retry: task.retry.map(|retry| retry_policy(&whose, retry, faults)),
        queue: task.queue,
        concurrency_limits: task.concurrency_limits,
        machine: task.machine.and_then(|name| machine(&whose, &name, faults)),
        max_duration_ms: task.max_duration_ms.map(|limit| if limit == 0 { 0 } else { limit.max(LEAST_DURATION_MS) }),
        ttl_ms: task.ttl_ms,
        payload_schema: task.payload_schema,
        on_cancel: task.hooks.contains(Hooks::ON_CANCEL),
        schedule: task.schedule.map(|schedule| schedule_definition(&whose, schedule, faults)),
        kind,
        id: task.id,
    }
}

fn schedule_definition(whose: &str, schedule: tasks::ScheduleDefinition, faults: &mut Vec<String>) -> ScheduleDefinition {
    let tasks::ScheduleDefinition { cron, timezone, environments, window_ms } = schedule;
    if window_ms.is_some_and(|ms| ms % 60_000 != 0) {
        faults.push(format!("{whose}: schedule.window-ms is no whole number of minutes"));
    }
    let window = window_ms.map(|ms| format!("{}m", ms / 60_000));
    let mut definition = ScheduleDefinition { cron, timezone, environments, window };
    if let Err(bad) = definition.timing() {
        faults.push(format!("{whose}: schedule.{bad}"));
    }
    if !definition.environments.is_empty() {
        let named = EnvironmentKind::ALL.into_iter().filter(|kind| definition.holds_in(*kind));
        definition.environments = named.map(|kind| kind.api_name().to_owned()).collect();
    }
    definition
}

fn check_schema(whose: &str, schema: Option<&str>, faults: &mut Vec<String>) {
    let Some(schema) = schema else { return };
    if schema.len() > MAX_SCHEMA_BYTES {
        faults.push(format!("{whose}: payload-schema has {} bytes; the most is {MAX_SCHEMA_BYTES}", schema.len()));
    } else if let Err(error) = serde_json::from_str::<serde_json::Value>(schema) {
        faults.push(format!("{whose}: payload-schema is not JSON text: {error}"));
    }
}

fn machine(whose: &str, name: &str, faults: &mut Vec<String>) -> Option<Machine> {
    let machine = Machine::parse(name);
    if machine.is_none() {
        let names: Vec<&str> = Machine::ALL.iter().map(|machine| machine.as_str()).collect();
        faults.push(format!("{whose}: there is no machine {:?}; there are {}", cut(name, 64), names.join(", ")));
    }
    machine
}

fn retry_policy(whose: &str, retry: tasks::RetryPolicy, faults: &mut Vec<String>) -> RetryPolicy {
    if !(1..=MAX_ATTEMPTS).contains(&retry.max_attempts) {
        faults.push(format!("{whose}: retry.max-attempts is {}; it takes 1 to {MAX_ATTEMPTS}", retry.max_attempts));
    }
    if !(retry.factor.is_finite() && retry.factor > 0.0) {
        faults.push(format!("{whose}: retry.factor is {}; it takes a number above 0", retry.factor));
    }
    for (name, time) in [("min-timeout-ms", retry.min_timeout_ms), ("max-timeout-ms", retry.max_timeout_ms)] {
        if time > MAX_TIME_MS {
            faults.push(format!("{whose}: retry.{name} is more than a year ({MAX_TIME_MS})"));
        }
    }
    RetryPolicy {
        max_attempts: retry.max_attempts,
        factor: retry.factor,
        min_timeout_ms: retry.min_timeout_ms,
        max_timeout_ms: retry.max_timeout_ms,
        randomize: retry.randomize,
        out_of_memory_machine: retry.out_of_memory_machine.and_then(|name| machine(whose, &name, faults)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str) -> tasks::TaskDefinition {
        tasks::TaskDefinition {
            id: id.into(),
            kind: tasks::TaskKind::Standard,
            description: None,
            source: None,
            retry: None,
            queue: None,
            concurrency_limits: Vec::new(),
            machine: None,
            max_duration_ms: None,
            ttl_ms: None,
            schedule: None,
            payload_schema: None,
            hooks: Hooks::empty(),
        }
    }

    fn schedule(cron: &str) -> tasks::ScheduleDefinition {
        let (timezone, environments) = ("Europe/Berlin".into(), vec!["PRODUCTION".into()]);
        tasks::ScheduleDefinition { cron: cron.into(), timezone, environments, window_ms: Some(5_400_000) }
    }

    fn bundle(tasks: Vec<tasks::TaskDefinition>) -> tasks::BundleDefinition {
        tasks::BundleDefinition { sdk: "rust/0.1.0".into(), tasks, queues: Vec::new(), concurrency_limits: Vec::new() }
    }

    #[test]
    fn a_declaration_within_the_rules_is_taken_over() {
        let mut one = task("send-email");
        one.max_duration_ms = Some(10);
        one.machine = Some("medium-1x".into());
        one.hooks = Hooks::ON_CANCEL | Hooks::INIT;
        one.payload_schema = Some(r#"{"type":"object"}"#.into());
        let definition = definition(bundle(vec![one, task("b")])).unwrap();
        let one = &definition.tasks[0];
        assert_eq!((one.max_duration_ms, one.machine, one.on_cancel), (Some(5000), Some(Machine::Medium1x), true));
        assert_eq!(definition.tasks[1].max_duration_ms, None);
    }

    #[test]
    fn limits_are_taken_over_with_a_tasks_own_and_what_is_wrong_with_them_is_named() {
        let limit = |name: &str, total| tasks::ConcurrencyLimitDefinition { name: name.into(), total, per_key: Some(1) };
        let naming = |id: &str, names: &[&str]| tasks::TaskDefinition {
            concurrency_limits: names.iter().map(ToString::to_string).collect(),
            ..task(id)
        };
        let with = |tasks, concurrency_limits| definition(tasks::BundleDefinition { concurrency_limits, ..bundle(tasks) });
        let taken = with(
            vec![naming("a/b", &["gpu"]), naming("c", &["gpu", "task/c"]), task("d")],
            vec![limit("gpu", Some(9)), limit("task/a/b", None), limit("task/c", Some(0))],
        );
        let taken = taken.unwrap();
        let names: Vec<_> = taken.tasks.iter().map(|task| task.concurrency_limits.join(" ")).collect();
        assert_eq!(names, ["gpu task/a/b", "gpu task/c", ""]);
        let gpu = LimitDefinition { name: "gpu".into(), total: Some(9), per_key: Some(1) };
        assert_eq!(taken.concurrency_limits[0], gpu);

        let three = || vec![limit("x", None), limit("y", None), limit("z", None)];
        for (tasks, limits, fault) in [
            (vec![naming("a", &["gpu"])], vec![], "declares no concurrency limit \"gpu\""),
            (vec![naming("a", &["x", "y", "z"])], three(), "at most 2 shared"),
            (vec![naming("a", &["task/b"]), task("b")], vec![limit("task/b", None)], "another task's own"),
            (vec![task("a")], vec![limit("a/b", None)], "1 to 122 of"),
            (vec![task("a")], vec![limit(&"x".repeat(123), None)], "1 to 122 of"),
            (vec![task("a")], vec![limit("x", Some(100_001))], "above 100000"),
            (vec![task("a")], vec![limit("x", None), limit("x", None)], "declared twice"),
        ] {
            let faults = with(tasks, limits).unwrap_err();
            assert!(faults.len() == 1 && faults[0].contains(fault), "{fault}: {faults:?}");
        }
    }

    #[test]
    fn a_schedule_is_taken_over_and_what_is_wrong_with_one_is_named() {
        let scheduled = |schedule| tasks::TaskDefinition { kind: tasks::TaskKind::Scheduled, schedule, ..task("a") };
        let taken = definition(bundle(vec![scheduled(Some(schedule("0 9 * * 1-5")))])).unwrap();
        let taken = taken.tasks[0].schedule.as_ref().unwrap();
        assert_eq!((taken.cron.as_str(), taken.window.as_deref()), ("0 9 * * 1-5", Some("90m")));
        let alone = definition(bundle(vec![scheduled(None)])).unwrap();
        assert_eq!((alone.tasks[0].kind, &alone.tasks[0].schedule), (TaskKind::Scheduled, &None));
        for (wrong, says) in [
            (
                tasks::ScheduleDefinition { timezone: "Mars".into(), ..schedule("0 9 * * *") },
                "schedule.timezone: there is no zone",
            ),
            (tasks::ScheduleDefinition { environments: vec!["x".into()], ..schedule("0 9 * * *") }, "no kind of environment"),
            (tasks::ScheduleDefinition { window_ms: Some(90_500), ..schedule("0 9 * * *") }, "whole number of minutes"),
            (tasks::ScheduleDefinition { window_ms: Some(90_000_000), ..schedule("0 9 * * *") }, "schedule.window"),
            (schedule("0 0 31 2 *"), "never fire"),
        ] {
            let faults = definition(bundle(vec![scheduled(Some(wrong))])).unwrap_err();
            assert!(faults.len() == 1 && faults[0].contains(says), "{faults:?}");
        }
    }

    #[test]
    fn every_broken_rule_is_named() {
        let retry = tasks::RetryPolicy {
            max_attempts: 0,
            factor: f64::NAN,
            min_timeout_ms: 1,
            max_timeout_ms: u64::MAX,
            randomize: true,
            out_of_memory_machine: Some("huge".into()),
        };
        let odd = tasks::TaskDefinition {
            retry: Some(retry),
            queue: Some("no spaces".into()),
            schedule: Some(schedule("0 9 * *")),
            payload_schema: Some("{".into()),
            ..task("two words")
        };
        let faults = definition(bundle(vec![task("a"), task("a"), odd])).unwrap_err();
        let expected = [
            "task \"a\" is declared twice",
            "task \"two words\": a task's id",
            "its kind must be scheduled",
            "schedule.cron: 4 fields instead of five",
            "a queue's name",
            "not JSON text",
            "max-attempts is 0",
            "factor is NaN",
            "max-timeout-ms is more than a year",
            "no machine \"huge\"; there are micro, small-1x",
        ];
        for text in expected {
            assert!(faults.iter().any(|fault| fault.contains(text)), "{text} is not among {faults:#?}");
        }
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        assert_eq!(definition(bundle(Vec::new())).unwrap_err(), ["the bundle has 0 tasks; it takes 1 to 1000"]);
    }
}
