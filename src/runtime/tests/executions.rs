//! Runs to their end, straight and in pieces, and runs that end badly.

use super::*;
use crate::{
    model::{
        attempt::RetryDecision,
        error::{ErrorCode, RunError},
        waitpoint::WaitRequest,
    },
    runtime::{RunFault, Snapshot, TaskFailure},
};

async fn suspended(bench: &Bench, component: &Arc<LoadedComponent>) -> Execution {
    let caller = Arc::new(Recorder::default());
    let mut execution = Execution::start(component, bench.setup(Machine::Micro), caller).await.unwrap();
    match execution.call("waits", &Packet::empty()).await {
        Step::Suspended(WaitRequest::Timer { .. }) => execution,
        other => panic!("{other:?}"),
    }
}

async fn restore(bench: &Bench, component: &Arc<LoadedComponent>, snapshot: &Snapshot) -> Result<Execution, RunFault> {
    Execution::restore(component, &snapshot.bytes, bench.setup(Machine::Micro), Arc::new(Recorder::default())).await
}

#[tokio::test]
async fn a_run_restored_at_every_wait_returns_what_a_straight_run_does() {
    let bench = Bench::new();
    let component = bench.load().await;
    let mut execution = suspended(&bench, &component).await;
    let mut waits = 1;
    let output = loop {
        let snapshot = execution.capture().await.unwrap();
        drop(execution);
        execution = restore(&bench, &component, &snapshot).await.unwrap();
        match execution.resume(elapsed()).await {
            Step::Suspended(_) => waits += 1,
            Step::Returned(Ok(output)) => break output,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((waits, output), (7, straight(&bench, &component).await));
}

#[tokio::test]
async fn a_run_that_was_captured_can_go_on_in_place() {
    let bench = Bench::new();
    let component = bench.load().await;
    let mut execution = suspended(&bench, &component).await;
    let output = loop {
        execution.capture().await.unwrap();
        match execution.resume(elapsed()).await {
            Step::Suspended(_) => {}
            Step::Returned(Ok(output)) => break output,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(output, straight(&bench, &component).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_move_between_threads() {
    let bench = Arc::new(Bench::new());
    let component = bench.load().await;
    let runs = (0..4).map(|_| {
        let (bench, component) = (bench.clone(), component.clone());
        tokio::spawn(async move {
            let mut execution = suspended(&bench, &component).await;
            loop {
                tokio::task::yield_now().await;
                let snapshot = execution.capture().await.unwrap();
                execution = restore(&bench, &component, &snapshot).await.unwrap();
                match execution.resume(elapsed()).await {
                    Step::Suspended(_) => {}
                    Step::Returned(Ok(output)) => break output,
                    other => panic!("{other:?}"),
                }
            }
        })
    });
    let expected = straight(&bench, &component).await;
    for run in runs.collect::<Vec<_>>() {
        assert_eq!(run.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_run_that_is_dropped_half_way_is_over() {
    let bench = Bench::new();
    let component = bench.load().await;
    let caller = Arc::new(Recorder::default());
    let mut execution = Execution::start(&component, bench.setup(Machine::Small2x), caller).await.unwrap();
    let spinning = tokio::time::timeout(Duration::from_millis(30), execution.call("spins", &Packet::empty())).await;
    assert!(spinning.is_err());
    assert!(matches!(execution.call("waits", &Packet::empty()).await, Step::Ended(_)));
}

#[tokio::test]
async fn one_snapshot_can_be_restored_many_times() {
    let bench = Bench::new();
    let component = bench.load().await;
    let snapshot = suspended(&bench, &component).await.capture().await.unwrap();
    let mut next = Vec::new();
    for _ in 0..3 {
        let mut execution = restore(&bench, &component, &snapshot).await.unwrap();
        assert!(matches!(execution.resume(elapsed()).await, Step::Suspended(_)));
        next.push(execution.capture().await.unwrap().raw_bytes);
    }
    assert!(next.iter().all(|raw_bytes| *raw_bytes == next[0]), "{next:?}");
}

#[tokio::test]
async fn cpu_time_goes_on_where_the_snapshot_was_taken() {
    let bench = Bench::new();
    let component = bench.load().await;
    let mut execution = suspended(&bench, &component).await;
    let snapshot = execution.capture().await.unwrap();
    let used_cpu = execution.used_cpu() + Duration::from_secs(10);
    let setup = RunSetup { used_cpu, ..bench.setup(Machine::Micro) };
    let restored = Execution::restore(&component, &snapshot.bytes, setup, Arc::new(Recorder::default())).await.unwrap();
    assert!(restored.used_cpu() > used_cpu);
    assert!(restored.used_cpu() < used_cpu + Duration::from_secs(5));
}

#[tokio::test]
async fn a_snapshot_is_refused_if_it_is_damaged_or_of_another_component_or_run() {
    let bench = Bench::new();
    let component = bench.load().await;
    let mut snapshot = suspended(&bench, &component).await.capture().await.unwrap();
    let other = wat::parse_str(include_str!("guest.wat").replace("0123456789", "9876543210")).unwrap();
    let other = bench.prepare(other).await.unwrap();
    let refusal = |result: Result<Execution, RunFault>| match result {
        Err(RunFault::Damaged(reason)) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was restored"),
    };
    let reason = refusal(restore(&bench, &other, &snapshot).await);
    let digest = |component: &LoadedComponent| component.rewriting().component.clone();
    assert_eq!(reason, format!("the snapshot is of the component {}, not of {}", digest(&component), digest(&other)));
    let again = bench.load().await;
    let reason = refusal(restore(&bench, &again, &snapshot).await);
    let digest = |component: &LoadedComponent| component.rewriting().digest.clone();
    assert_eq!(reason, format!("the snapshot fits the rewritten component {}, not {}", digest(&component), digest(&again)));
    let mut setup = bench.setup(Machine::Micro);
    setup.context.run = RunId::new();
    let run = setup.context.run;
    let elsewhere = Execution::restore(&component, &snapshot.bytes, setup, Arc::new(Recorder::default())).await;
    assert_eq!(refusal(elsewhere), format!("the snapshot is of the run {}, not of {run}", bench.run));
    let middle = snapshot.bytes.len() / 2;
    snapshot.bytes[middle] ^= 1;
    assert_eq!(refusal(restore(&bench, &component, &snapshot).await), "the checksum of the snapshot does not hold");
}

#[tokio::test]
async fn a_snapshot_of_an_earlier_rewriter_needs_only_the_bytes_that_one_made() {
    let bench = Bench::new();
    let earlier = of_version(bench.folder.path().join("earlier"), rewrite::VERSION - 1);
    let kept = earlier.rewrite(guest().into()).await.unwrap();
    let component = earlier.load(&kept.rewriting, Part::Whole, async || Ok(kept.bytes.clone())).await.unwrap();
    let snapshot = suspended(&bench, &component).await.capture().await.unwrap();

    let Err(RunFault::Damaged(reason)) = restore(&bench, &bench.load().await, &snapshot).await else { panic!("it does not fit") };
    let (found, expected) = (rewrite::VERSION - 1, rewrite::VERSION);
    assert_eq!(
        reason,
        format!("the snapshot was made with version {found} of the rewriter, the component at hand with version {expected}")
    );
    let component = bench.runtime.load(&kept.rewriting, Part::Whole, async || Ok(kept.bytes)).await.unwrap();
    let mut execution = restore(&bench, &component, &snapshot).await.unwrap();
    assert!(matches!(execution.resume(elapsed()).await, Step::Suspended(_)));
}

#[tokio::test]
async fn what_is_not_suspended_is_neither_captured_nor_resumed() {
    let bench = Bench::new();
    let component = bench.load().await;
    let caller = Arc::new(Recorder::default());
    let mut execution = Execution::start(&component, bench.setup(Machine::Micro), caller).await.unwrap();
    assert!(matches!(execution.capture().await, Err(RunFault::Host(_))));
    assert!(matches!(
        execution.resume(elapsed()).await,
        Step::Ended(RunError::Internal { code: ErrorCode::UnspecifiedError, .. })
    ));
}

/// How a task ends, with the names on its stack.
async fn ended(task: &str, cpu_limit: Option<Duration>) -> (ErrorCode, String, String) {
    let bench = Bench::new();
    let component = bench.load().await;
    let setup = RunSetup { cpu_limit, ..bench.setup(Machine::Small2x) };
    let mut execution = Execution::start(&component, setup, Arc::new(Recorder::default())).await.unwrap();
    match execution.call(task, &Packet::empty()).await {
        Step::Ended(RunError::Internal { code, message, stack_trace }) => {
            (code, message.unwrap_or_default(), stack_trace.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_trap_is_a_crash_with_the_guests_stack() {
    let (code, message, stack) = ended("traps", None).await;
    assert_eq!((code, message.as_str()), (ErrorCode::TaskRunCrashed, "the task aborted: a panic, a failed assertion or `abort`"));
    assert!(stack.contains("main!run"), "{stack}");
}

/// How a task ends that waits once and is restored then.
async fn ended_after_a_wait(task: &str) -> String {
    let bench = Bench::new();
    let component = bench.load().await;
    let caller = Arc::new(Recorder::default());
    let mut execution = Execution::start(&component, bench.setup(Machine::Micro), caller).await.unwrap();
    assert!(matches!(execution.call(task, &Packet::empty()).await, Step::Suspended(_)));
    let snapshot = execution.capture().await.unwrap();
    match restore(&bench, &component, &snapshot).await.unwrap().resume(elapsed()).await {
        Step::Ended(RunError::Internal { code: ErrorCode::TaskRunCrashed, message, .. }) => message.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dropped_segment_is_still_dropped_after_a_wait() {
    assert!(ended_after_a_wait("dropped").await.ends_with("out of bounds memory access"));
}

#[tokio::test]
async fn an_exception_that_nothing_catches_is_a_crash_that_says_so() {
    assert!(ended_after_a_wait("uncaught").await.ends_with("the task threw an exception that nothing caught"));
}

#[tokio::test]
async fn endless_recursion_is_a_crash_that_says_so() {
    let (code, message, stack) = ended("recurses", None).await;
    assert_eq!((code, message.as_str()), (ErrorCode::TaskRunCrashed, "the call stack is full: the task recursed too deeply"));
    assert!(stack.starts_with("main!recurse\nmain!recurse\n"), "{stack}");
    assert_eq!(stack.lines().count(), 50);
}

#[tokio::test]
async fn taking_all_memory_is_out_of_memory() {
    let (code, message, _) = ended("out of memory", None).await;
    assert_eq!(code, ErrorCode::TaskProcessOomKilled);
    assert_eq!(message, "the task asked for more memory than the 1024 MiB of its machine, small-2x");
}

#[tokio::test]
async fn spinning_ends_at_the_cpu_limit() {
    let (code, message, stack) = ended("spins", Some(Duration::from_millis(50))).await;
    assert_eq!(code, ErrorCode::MaxDurationExceeded);
    assert_eq!(message, "Run exceeded maximum compute time (maxDuration) of 0.05 seconds");
    assert!(stack.contains("main!run"), "{stack}");
}

#[tokio::test]
async fn an_error_that_the_task_returns_is_not_an_end_of_the_hosts() {
    let bench = Bench::new();
    let component = bench.load().await;
    let caller = Arc::new(Recorder::default());
    let mut execution = Execution::start(&component, bench.setup(Machine::Micro), caller).await.unwrap();
    let Step::Returned(Err(failure)) = execution.call("errors", &Packet::empty()).await else { panic!("it returns an error") };
    let error = RunError::Text { raw: "the task failed".into() };
    assert_eq!(failure, TaskFailure { error, retry: RetryDecision::Abort });
}
