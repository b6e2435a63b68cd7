//! What a component offers: its tasks, what they declare, and the way from the host's call to the task's function.

use std::io::Write;

use crate::TaskError;
use crate::bindings::dormouse::task::types::Packet;
use crate::bindings::exports::dormouse::task::tasks::{
    self, BundleDefinition, ConcurrencyLimitDefinition, Hooks, QueueDefinition, RetryPolicy, ScheduleDefinition, TaskDefinition,
    TaskKind,
};

/// A task: implemented by [`#[dormouse::task]`](macro@crate::task) for an empty type called like the function.
pub trait Task {
    /// The id that callers use, unique within the bundle.
    const ID: &'static str;

    /// What stands in the attribute's parentheses.
    #[doc(hidden)]
    fn options() -> Options;

    /// Decodes the payload, calls the function and encodes what it returned.
    #[doc(hidden)]
    fn run(packet: Packet) -> Result<Packet, TaskError>;
}

/// The declaration of a task as the attribute writes it down; what is `None` is left to the project's configuration.
pub struct Options {
    /// For people.
    pub description: Option<&'static str>,
    /// File and line of the declaration.
    pub source: &'static str,
    /// In place of the project's policy.
    pub retry: Option<Retry>,
    /// The queue its runs go through.
    pub queue: Option<Queue>,
    /// Limits that its runs need a place in: its own and shared ones.
    pub limits: &'static [Limit],
    /// Machine preset.
    pub machine: Option<&'static str>,
    /// CPU time of an attempt; 0: no limit.
    pub max_duration_ms: Option<u64>,
    /// How long a run may wait for its start; 0: for ever.
    pub ttl_ms: Option<u64>,
    /// It listens for cancellation.
    pub on_cancel: bool,
    /// It may have schedules.
    pub scheduled: bool,
    /// It has this one, in step with the deployment.
    pub schedule: Option<Schedule>,
}

/// `retry(…)`, filled up with the defaults.
pub struct Retry {
    /// 1 to 250.
    pub max_attempts: u32,
    /// By which the delay grows from attempt to attempt.
    pub factor: f64,
    /// The first delay.
    pub min_timeout_ms: u64,
    /// The longest delay.
    pub max_timeout_ms: u64,
    /// Whether delays are stretched by a random factor below 2.
    pub randomize: bool,
    /// The machine preset to go on with when memory has run out.
    pub out_of_memory_machine: Option<&'static str>,
}

/// `queue = "…"` or `queue(…)`; without a name it is the task's own.
pub struct Queue {
    /// 1 to 128 of A-Z a-z 0-9 _ - /
    pub name: Option<&'static str>,
    /// Runs at a time.
    pub concurrency: Option<u32>,
}

/// `concurrency(…)`, and each `limit(…)` of `limits(…)`.
pub struct Limit {
    /// 1 to 122 of A-Z a-z 0-9 _ -; none: the task's own.
    pub name: Option<&'static str>,
    /// Runs at a time.
    pub total: Option<u32>,
    /// Runs at a time with one concurrency key.
    pub per_key: Option<u32>,
}

/// `schedule = "…"` or `schedule(…)`.
pub struct Schedule {
    /// Five fields.
    pub cron: &'static str,
    /// IANA name.
    pub timezone: &'static str,
    /// None: all.
    pub environments: &'static [&'static str],
    /// Over which it may be spread.
    pub window_ms: Option<u64>,
}

/// One task in the table that `bundle!` makes.
pub struct Entry {
    id: &'static str,
    options: fn() -> Options,
    run: fn(Packet, Apart, Apart) -> Result<Packet, TaskError>,
}

/// Two of these make the type of [`Entry::run`] one that nothing else is called by through a table. The host makes suspendable
/// whatever may reach a wait, and takes a call through a table for a call of every function of that type: by its own two
/// pointers a task would look like an allocation's error handler, and so all that allocates like all that waits.
type Apart = f64;

impl Entry {
    /// The entry of a task.
    pub const fn of<T: Task>() -> Entry {
        Entry { id: T::ID, options: T::options, run: enter::<T> }
    }
}

fn enter<T: Task>(packet: Packet, _: Apart, _: Apart) -> Result<Packet, TaskError> {
    T::run(packet)
}

/// Names the tasks of this component: `dormouse::bundle!(hello, mail::send);`, once in the crate.
///
/// Two tasks of the same id do not compile.
#[macro_export]
macro_rules! bundle {
    ($($task:path),+ $(,)?) => {
        const _: () = {
            const TASKS: &[$crate::__private::Entry] = &[$($crate::__private::Entry::of::<$task>()),+];
            const _: () = assert!($crate::__private::ids_are_distinct(TASKS), "two tasks of the bundle have the same id");

            struct Bundle;

            impl $crate::__private::bindings::exports::dormouse::task::tasks::Guest for Bundle {
                fn describe() -> $crate::__private::bindings::exports::dormouse::task::tasks::BundleDefinition {
                    $crate::__private::describe(TASKS)
                }

                fn run(
                    task: ::std::string::String,
                    payload: $crate::__private::Packet,
                ) -> ::core::result::Result<
                    $crate::__private::Packet,
                    $crate::__private::bindings::exports::dormouse::task::tasks::TaskError,
                > {
                    $crate::__private::run(TASKS, &task, payload)
                }
            }

            $crate::__private::export_bundle!(Bundle with_types_in $crate::__private::bindings);
        };
    };
}

/// Whether every task of the table has an id of its own.
pub const fn ids_are_distinct(entries: &[Entry]) -> bool {
    let mut at = 0;
    while at < entries.len() {
        let mut earlier = 0;
        while earlier < at {
            if same(entries[at].id.as_bytes(), entries[earlier].id.as_bytes()) {
                return false;
            }
            earlier += 1;
        }
        at += 1;
    }
    true
}

const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Answers `tasks.describe`.
pub fn describe(entries: &[Entry]) -> BundleDefinition {
    let mut bundle = BundleDefinition {
        sdk: concat!("rust/", env!("CARGO_PKG_VERSION")).into(),
        tasks: Vec::new(),
        queues: Vec::new(),
        concurrency_limits: Vec::<ConcurrencyLimitDefinition>::new(),
    };
    for entry in entries {
        let options = (entry.options)();
        if let Some(queue) = &options.queue {
            declare(&mut bundle.queues, queue, entry.id);
        }
        for limit in options.limits {
            declare_limit(&mut bundle.concurrency_limits, limit, entry.id);
        }
        bundle.tasks.push(definition(entry.id, options));
    }
    bundle
}

fn definition(id: &str, options: Options) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        kind: if options.scheduled { TaskKind::Scheduled } else { TaskKind::Standard },
        description: options.description.map(Into::into),
        source: Some(options.source.into()),
        retry: options.retry.map(policy),
        queue: options.queue.and_then(|queue| queue.name).map(Into::into),
        concurrency_limits: options.limits.iter().map(|limit| limit.named(id)).collect(),
        machine: options.machine.map(Into::into),
        max_duration_ms: options.max_duration_ms,
        ttl_ms: options.ttl_ms,
        schedule: options.schedule.map(schedule),
        payload_schema: None,
        hooks: if options.on_cancel { Hooks::ON_CANCEL } else { Hooks::empty() },
    }
}

fn policy(retry: Retry) -> RetryPolicy {
    RetryPolicy {
        max_attempts: retry.max_attempts,
        factor: retry.factor,
        min_timeout_ms: retry.min_timeout_ms,
        max_timeout_ms: retry.max_timeout_ms,
        randomize: retry.randomize,
        out_of_memory_machine: retry.out_of_memory_machine.map(Into::into),
    }
}

fn schedule(schedule: Schedule) -> ScheduleDefinition {
    ScheduleDefinition {
        cron: schedule.cron.into(),
        timezone: schedule.timezone.into(),
        environments: schedule.environments.iter().map(ToString::to_string).collect(),
        window_ms: schedule.window_ms,
    }
}

/// Several tasks may name one queue; the limit stands wherever one of them gives it.
fn declare(queues: &mut Vec<QueueDefinition>, queue: &Queue, task: &str) {
    let name = queue.name.map_or_else(|| format!("task/{task}"), Into::into);
    match queues.iter_mut().find(|declared| declared.name == name) {
        Some(declared) => declared.concurrency_limit = declared.concurrency_limit.or(queue.concurrency),
        None => queues.push(QueueDefinition { name, concurrency_limit: queue.concurrency }),
    }
}

/// Several tasks may name one limit; a bound stands wherever one of them gives it.
fn declare_limit(limits: &mut Vec<ConcurrencyLimitDefinition>, limit: &Limit, task: &str) {
    let name = limit.named(task);
    match limits.iter_mut().find(|declared| declared.name == name) {
        Some(declared) => {
            declared.total = declared.total.or(limit.total);
            declared.per_key = declared.per_key.or(limit.per_key);
        }
        None => limits.push(ConcurrencyLimitDefinition { name, total: limit.total, per_key: limit.per_key }),
    }
}

impl Limit {
    fn named(&self, task: &str) -> String {
        self.name.map_or_else(|| format!("task/{task}"), Into::into)
    }
}

/// Answers `tasks.run`.
pub fn run(entries: &[Entry], task: &str, payload: Packet) -> Result<Packet, tasks::TaskError> {
    crate::panic::report_to_the_log();
    let outcome = match entries.iter().find(|entry| entry.id == task) {
        Some(entry) => (entry.run)(payload, 0.0, 0.0),
        None => Err(TaskError::unknown_task(task)),
    };
    // What was printed without a line's end would otherwise be lost with the instance. A closed stdout is no reason to fail.
    let _ = std::io::stdout().flush();
    outcome.map_err(TaskError::into_wit)
}

#[cfg(test)]
mod tests {
    use super::{Entry, Limit, Options, Queue, Schedule, Task, describe, ids_are_distinct, run};
    use crate::TaskError;
    use crate::bindings::dormouse::task::types::{Packet, RunError};
    use crate::bindings::exports::dormouse::task::tasks::{FailureReason, Hooks, TaskKind};

    struct Echo;

    impl Task for Echo {
        const ID: &'static str = "echo";

        fn options() -> Options {
            let queue = Some(Queue { name: None, concurrency: Some(4) });
            Options {
                description: None,
                source: "here:1",
                retry: None,
                queue,
                limits: &[
                    Limit { name: None, total: Some(20), per_key: Some(2) },
                    Limit { name: Some("openai"), total: Some(10), per_key: None },
                ],
                machine: None,
                max_duration_ms: None,
                ttl_ms: None,
                on_cancel: true,
                scheduled: true,
                schedule: Some(Schedule { cron: "0 9 * * *", timezone: "UTC", environments: &["STAGING"], window_ms: None }),
            }
        }

        fn run(packet: Packet) -> Result<Packet, TaskError> {
            Ok(packet)
        }
    }

    const TASKS: &[Entry] = &[Entry::of::<Echo>()];

    fn packet(data: &str) -> Packet {
        Packet { data: data.into(), content_type: "application/json".into() }
    }

    #[test]
    fn a_bundle_describes_its_tasks_and_the_queues_they_name() {
        let bundle = describe(TASKS);
        assert_eq!(bundle.tasks[0].id, "echo");
        assert_eq!(bundle.tasks[0].queue, None);
        assert_eq!((bundle.queues[0].name.as_str(), bundle.queues[0].concurrency_limit), ("task/echo", Some(4)));
        assert_eq!(bundle.tasks[0].concurrency_limits, ["task/echo", "openai"]);
        let limits: Vec<_> =
            bundle.concurrency_limits.iter().map(|limit| (limit.name.as_str(), limit.total, limit.per_key)).collect();
        assert_eq!(limits, [("task/echo", Some(20), Some(2)), ("openai", Some(10), None)]);
        assert!(bundle.sdk.starts_with("rust/"));
        let schedule = bundle.tasks[0].schedule.as_ref().unwrap();
        assert_eq!((bundle.tasks[0].kind, schedule.cron.as_str()), (TaskKind::Scheduled, "0 9 * * *"));
        assert_eq!(schedule.environments, ["STAGING"]);
        assert_eq!(bundle.tasks[0].hooks, Hooks::ON_CANCEL);
    }

    #[test]
    fn a_task_is_found_by_its_id() {
        assert_eq!(run(TASKS, "echo", packet("1")).unwrap().data, b"1");
        let error = run(TASKS, "eco", packet("1")).unwrap_err();
        assert_eq!(error.reason, FailureReason::UnknownTask);
        assert!(matches!(error.error, RunError::Exception(chain) if chain.outermost.message.contains("`eco`")));
    }

    #[test]
    fn two_tasks_of_one_id_are_noticed() {
        assert!(ids_are_distinct(TASKS));
        assert!(!ids_are_distinct(&[Entry::of::<Echo>(), Entry::of::<Echo>()]));
    }
}
