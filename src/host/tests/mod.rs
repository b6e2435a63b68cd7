//! The host as a rewritten component sees it: erased names, numbers for handles, both halves of every wait.

mod guest;

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use wasmtime::{
    Config, Engine,
    component::{Component, Linker},
};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorFlags, ErrorCode};

use self::guest::Guest;
use super::{
    Begin, HostErrorCode, HostState, Setup, exit_code,
    limits::{MAX_LISTINGS, MAX_OPEN_FILES},
    link,
    task::bindings::dormouse::task::{context, metadata, telemetry, telemetry::Level, types},
    testing::{Asked, Recorder, state},
    wasi::{
        generated::Kind,
        ids::{ErasedStreamError, Reopen},
        reopen::warm_reason,
    },
};
use crate::model::{
    id::WaitpointId,
    log::Source,
    machine::Machine,
    payload::Packet,
    trace::SpanId,
    waitpoint::{Completion, Resolution, WaitRequest},
};

#[tokio::test]
async fn a_component_with_erased_names_reaches_everything_it_imports() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let stdout: u32 = guest.call("stdout-get-stdout", ()).await;
    guest.print(stdout, "hello\nhalf").await.unwrap();
    guest.state().finish_output();
    assert_eq!(caller.messages(), ["hello", "half"]);
    let environment: Vec<(String, String)> = guest.call("environment-get-environment", ()).await;
    assert_eq!(environment, [("NAME".into(), "value".into())]);
    let first: u64 = guest.call("random-get-random-u64", ()).await;
    let second: u64 = guest.call("random-get-random-u64", ()).await;
    assert_ne!(first, second);
    assert!(guest.try_call::<_, Vec<u8>>("random-get-random-bytes", (u64::MAX,)).await.is_err());
}

#[tokio::test]
async fn files_are_read_and_written_in_the_scratch_directory() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    std::fs::write(scratch.path().join("in"), "0123456789").unwrap();
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let file = guest.open("in", DescriptorFlags::READ).await;
    let stream = guest.stream("read", file, 4).await;
    assert_eq!(guest.read(stream, 3).await.unwrap(), b"456");
    let pollable: u32 = guest.call("streams-m-input-stream-x-subscribe", (stream,)).await;
    assert!(guest.call::<_, bool>("poll-m-pollable-x-ready", (pollable,)).await);
    // A parent cannot go before its child, as in WASI itself.
    guest.run("handles-drop", (pollable,)).await.unwrap();
    guest.run("handles-drop", (stream,)).await.unwrap();
    let out = guest.open("out", DescriptorFlags::WRITE).await;
    let writer = guest.stream("write", out, 0).await;
    guest.print(writer, "written").await.unwrap();
    assert_eq!(std::fs::read_to_string(scratch.path().join("out")).unwrap(), "written");
}

#[tokio::test]
async fn a_made_up_or_dropped_handle_traps() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let stdout: u32 = guest.call("stdout-get-stdout", ()).await;
    let error = guest.try_call::<_, bool>("poll-m-pollable-x-ready", (stdout,)).await.unwrap_err();
    assert!(format!("{error:?}").contains("handle 1 is a output-stream, not a pollable"), "{error:?}");
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let error = guest.run("handles-drop", (7u32,)).await.unwrap_err();
    assert!(format!("{error:?}").contains("unknown handle 7"), "{error:?}");
}

#[tokio::test]
async fn an_exit_is_told_from_a_trap() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let error = guest.run("exit-exit", (Err::<(), ()>(()),)).await.unwrap_err();
    assert_eq!(exit_code(&error), Some(1));
}

#[tokio::test]
async fn a_long_sleep_suspends_and_a_short_one_does_not() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let soon: u32 = guest.call("monotonic-clock-subscribe-duration", (1_000_000u64,)).await;
    let later: u32 = guest.call("monotonic-clock-subscribe-duration", (3_600_000_000_000u64,)).await;
    assert_eq!(guest.call::<_, u32>("poll-poll-start", (vec![later, soon],)).await, 0);
    assert_eq!(guest.call::<_, Vec<u32>>("poll-poll-finish", ()).await, [1]);
    assert_eq!(caller.asked(), []);
    assert_eq!(guest.call::<_, u32>("poll-m-pollable-x-block-start", (later,)).await, 1);
    let Some(WaitRequest::Sleep { at }) = guest.state().take_suspended() else { panic!("no sleep") };
    assert!((at - Utc::now() - TimeDelta::hours(1)).abs() < TimeDelta::seconds(5));
    assert_eq!(caller.asked(), [Asked::Wait(WaitRequest::Sleep { at }, None)]);
}

#[tokio::test]
async fn everything_open_is_there_again_after_a_restore() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    std::fs::write(scratch.path().join("in"), "0123456789").unwrap();
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let stdout: u32 = guest.call("stdout-get-stdout", ()).await;
    guest.print(stdout, "half ").await.unwrap();
    let file = guest.open("in", DescriptorFlags::READ).await;
    let reader = guest.stream("read", file, 0).await;
    assert_eq!(guest.read(reader, 4).await.unwrap(), b"0123");
    let ready: u32 = guest.call("streams-m-input-stream-x-subscribe", (reader,)).await;
    let out = guest.open("out", DescriptorFlags::WRITE).await;
    let writer = guest.stream("write", out, 0).await;
    guest.print(writer, "one ").await.unwrap();
    let timer: u32 = guest.call("monotonic-clock-subscribe-duration", (200_000_000u64,)).await;
    assert_eq!(guest.call::<_, u32>("poll-poll-start", (vec![timer],)).await, 1);
    guest.state().take_suspended().unwrap();
    let before: u64 = guest.call("monotonic-clock-now", ()).await;
    assert!(!guest.call::<_, bool>("poll-m-pollable-x-ready", (timer,)).await);
    let saved = guest.state().save().await;
    drop(guest);

    let mut guest = Guest::new(Begin::Restored, scratch.path(), &caller).await;
    // What start functions do on the way is neither seen nor kept.
    let stray: u32 = guest.call("stdout-get-stdout", ()).await;
    guest.print(stray, "again\n").await.unwrap();
    assert!(saved.len() < 300, "{} bytes", saved.len());
    guest.state().rebuild(&saved).await.unwrap();
    guest.state().answer(Vec::new());
    assert_eq!(guest.call::<_, Vec<u32>>("poll-poll-finish", ()).await, [0]);
    let after: u64 = guest.call("monotonic-clock-now", ()).await;
    assert!(after >= before + 100_000_000, "{before} {after}");
    guest.print(stdout, "a line\n").await.unwrap();
    assert_eq!(caller.messages(), ["half a line"]);
    assert_eq!(guest.read(reader, 3).await.unwrap(), b"456");
    assert!(guest.call::<_, bool>("poll-m-pollable-x-ready", (ready,)).await);
    guest.print(writer, "two").await.unwrap();
    assert_eq!(std::fs::read_to_string(scratch.path().join("out")).unwrap(), "one two");
    let fresh = guest.stream("read", file, 9).await;
    assert_eq!((fresh > timer, guest.read(fresh, 9).await.unwrap()), (true, b"9".to_vec()));
}

#[tokio::test]
async fn a_file_that_was_deleted_keeps_the_wait_in_memory() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    std::fs::write(scratch.path().join("gone"), "x").unwrap();
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    guest.open("gone", DescriptorFlags::READ).await;
    std::fs::remove_file(scratch.path().join("gone")).unwrap();
    let token = WaitpointId::new().to_string();
    guest.call::<_, u32>("wait-for-token-start", (token.as_str(),)).await;
    let [Asked::Wait(_, Some(reason))] = &caller.asked()[..] else { panic!("{:?}", caller.asked()) };
    let expected = "its descriptor (handle 2) is open on \"gone\", which was deleted \
                    or renamed; close it before the wait";
    assert_eq!(reason, expected);
}

#[tokio::test]
async fn a_stream_whose_file_is_another_now_keeps_the_wait_in_memory() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    std::fs::write(scratch.path().join("file"), "x").unwrap();
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let file = guest.open("file", DescriptorFlags::READ).await;
    guest.stream("read", file, 0).await;
    guest.run("handles-drop", (file,)).await.unwrap();
    assert_eq!(warm_reason(guest.state()), None);
    let saved = guest.state().save().await;
    let mut restored = Guest::new(Begin::Restored, scratch.path(), &caller).await;
    restored.state().rebuild(&saved).await.unwrap();
    assert_eq!(warm_reason(restored.state()), None);
    std::fs::write(scratch.path().join("other"), "y").unwrap();
    std::fs::rename(scratch.path().join("other"), scratch.path().join("file")).unwrap();
    for state in [guest.state(), restored.state()] {
        assert!(warm_reason(state).unwrap().contains("is open on \"file\", which was deleted or renamed"));
    }
}

#[tokio::test]
async fn open_files_are_bounded_with_those_that_streams_keep_and_come_back_sharing_descriptors() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let mut streams = vec![];
    for n in 0..MAX_OPEN_FILES {
        let file = guest.open(&format!("file-{n}"), flags).await;
        streams.push(guest.stream("write", file, 0).await);
        guest.stream("read", file, 0).await;
        if n % 2 == 0 {
            guest.run("handles-drop", (file,)).await.unwrap();
        }
    }
    assert_eq!(guest.try_open("one more", flags).await, Err(ErrorCode::InsufficientMemory));
    let saved = guest.state().save().await;
    let mut guest = Guest::new(Begin::Restored, scratch.path(), &caller).await;
    guest.state().rebuild(&saved).await.unwrap();
    assert_eq!(guest.state().run.as_ref().unwrap().open_files.count(), MAX_OPEN_FILES);
    assert_eq!(guest.try_open("one more", flags).await, Err(ErrorCode::InsufficientMemory));
    guest.print(streams[7], "text").await.unwrap();
    assert_eq!(std::fs::read_to_string(scratch.path().join("file-7")).unwrap(), "text");
    // The descriptor itself was dropped before.
    for stream in [streams[0], streams[0] + 1] {
        guest.run("handles-drop", (stream,)).await.unwrap();
    }
    guest.open("one more", flags).await;
}

#[tokio::test]
async fn a_file_that_was_deleted_counts_for_as_long_as_it_is_open() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let file = guest.open("file", DescriptorFlags::WRITE).await;
    guest.open("file", DescriptorFlags::READ).await;
    std::fs::write(scratch.path().join("file"), vec![1; 100_000]).unwrap();
    let open_files = guest.state().run.as_ref().unwrap().open_files.clone();
    assert_eq!((open_files.count(), open_files.deleted_bytes()), (2, 0));
    std::fs::remove_file(scratch.path().join("file")).unwrap();
    let deleted = open_files.deleted_bytes();
    assert!((100_000..200_000).contains(&deleted), "{deleted}");
    guest.run("handles-drop", (file,)).await.unwrap();
    assert_eq!(open_files.deleted_bytes(), deleted);
    drop(guest);
    assert_eq!((open_files.count(), open_files.deleted_bytes()), (0, 0));
}

#[tokio::test]
async fn directory_listings_are_bounded() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let directories: Vec<(u32, String)> = guest.call("preopens-get-directories", ()).await;
    let mut last = Err::<u32, _>(ErrorCode::NoEntry);
    for _ in 0..MAX_LISTINGS {
        last = guest.call("types-m-descriptor-x-read-directory", (directories[0].0,)).await;
    }
    let refused: Result<u32, ErrorCode> = guest.call("types-m-descriptor-x-read-directory", (directories[0].0,)).await;
    assert_eq!(refused, Err(ErrorCode::InsufficientMemory));
    guest.run("handles-drop", (last.unwrap(),)).await.unwrap();
    let again: Result<u32, ErrorCode> = guest.call("types-m-descriptor-x-read-directory", (directories[0].0,)).await;
    again.unwrap();
}

#[tokio::test]
async fn what_a_restore_does_not_find_fails_where_it_is_used() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    std::fs::write(scratch.path().join("in"), "0123456789").unwrap();
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let file = guest.open("in", DescriptorFlags::READ).await;
    let reader = guest.stream("read", file, 0).await;
    let saved = guest.state().save().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let mut guest = Guest::new(Begin::Restored, elsewhere.path(), &caller).await;
    guest.state().rebuild(&saved).await.unwrap();
    assert!(matches!(guest.read(reader, 3).await, Err(ErasedStreamError::LastOperationFailed(_))));
    guest.run("handles-drop", (reader,)).await.unwrap();
    let name = "types-m-descriptor-x-read-via-stream";
    let error = guest.try_call::<_, Result<u32, ErrorCode>>(name, (file, 0u64)).await.unwrap_err();
    assert!(format!("{error:?}").contains("was lost in a restore: \"in\" cannot be opened"), "{error:?}");
}

#[tokio::test]
async fn damaged_bytes_are_refused_and_never_panic() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    guest.call::<_, u32>("stdout-get-stdout", ()).await;
    guest.open("in", DescriptorFlags::WRITE).await;
    let saved = guest.state().save().await;
    for length in 0..saved.len() {
        assert!(guest.state().rebuild(&saved[..length]).await.is_err(), "{length}");
    }
    for place in 0..saved.len() {
        for value in [0, 1, 127, 255] {
            let mut damaged = saved.clone();
            damaged[place] = value;
            let _ = guest.state().rebuild(&damaged).await;
        }
    }
}

#[tokio::test]
async fn waits_end_at_once_suspend_or_are_refused() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let none = || None::<types::Idempotency>;
    assert_eq!(guest.call::<_, u32>("wait-for-duration-start", (0u64, none())).await, 0);
    let over: Result<(), types::HostError> = guest.call("wait-for-duration-finish", ()).await;
    over.unwrap();
    assert_eq!(caller.asked(), []);
    assert_eq!(guest.call::<_, u32>("wait-for-duration-start", (u64::MAX, none())).await, 0);
    let over: Result<(), types::HostError> = guest.call("wait-for-duration-finish", ()).await;
    assert!(over.unwrap_err().message.contains("100 years"));
    assert_eq!(guest.call::<_, u32>("wait-for-duration-start", (60_000u64, none())).await, 1);
    assert!(matches!(guest.state().take_suspended(), Some(WaitRequest::Timer { idempotency: None, .. })));
    assert_eq!(guest.state().take_suspended(), None);
    guest.state().answer(vec![Completion { index: 0, resolution: Resolution::Elapsed }]);
    let over: Result<(), types::HostError> = guest.call("wait-for-duration-finish", ()).await;
    over.unwrap();
}

#[tokio::test]
async fn a_token_gives_its_value_to_whoever_waits_for_it() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let value = Packet { data: b"\"yes\"".to_vec(), content_type: "application/json".into() };
    caller.answer(vec![Completion { index: 0, resolution: Resolution::Completed(value.clone()) }]);
    let token = WaitpointId::new();
    assert_eq!(guest.call::<_, u32>("wait-for-token-start", (token.to_string(),)).await, 0);
    let outcome: Result<types::TokenOutcome, types::HostError> = guest.call("wait-for-token-finish", ()).await;
    let Ok(types::TokenOutcome::Completed(packet)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(Packet::from(packet), value);
    assert_eq!(caller.asked(), [Asked::Wait(WaitRequest::Any { waitables: vec![token.into()] }, None)]);
    assert_eq!(guest.call::<_, u32>("wait-for-token-start", ("no id",)).await, 0);
    let outcome: Result<types::TokenOutcome, types::HostError> = guest.call("wait-for-token-finish", ()).await;
    assert!(matches!(outcome.unwrap_err().code, types::ErrorCode::Invalid));
}

#[tokio::test]
async fn log_lines_carry_level_attributes_and_span() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Fresh, scratch.path(), &caller).await;
    let params = (Level::Warn, "careful", "{\"n\":1}", Some(255u64));
    guest.run("telemetry-log", params).await.unwrap();
    let [Asked::Log(record)] = &caller.asked()[..] else { panic!("{:?}", caller.asked()) };
    assert_eq!((record.source, record.message.as_str()), (Source::Logger, "careful"));
    assert_eq!(record.attributes, serde_json::json!({"n": 1}));
    assert_eq!(record.span, SpanId::of(255));
}

#[tokio::test]
async fn a_span_begins_below_another_and_ends_with_what_went_wrong() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut state = state(Begin::Fresh, scratch.path(), caller.clone());
    let attributes = |n: u32| format!("{{\"n\":{n}}}");
    let span = telemetry::Host::start_span(&mut state, "n".repeat(1000), attributes(1), Some(255)).await.unwrap();
    telemetry::Host::end_span(&mut state, span, attributes(2), Some("no".into())).await.unwrap();
    telemetry::Host::end_span(&mut state, 0, String::new(), None).await.unwrap();
    let [Asked::Begin(begun), Asked::End(ended)] = &caller.asked()[..] else { panic!("{:?}", caller.asked()) };
    assert_eq!((begun.name.len(), &begun.attributes["n"], begun.parent), (256, &serde_json::json!(1), SpanId::of(255)));
    assert_eq!(
        (Some(ended.id), &ended.attributes["n"], ended.error.as_deref()),
        (SpanId::of(span), &serde_json::json!(2), Some("no"))
    );
}

#[test]
fn unknown_imports_are_all_named() {
    let engine = Engine::new(&Config::new()).unwrap();
    let text = "(component (import \"wasi:http/incoming-handler@0.2.6\" (instance)) (import \"other:thing/x\" (instance)) \
                (import \"wasi:cli/stdout@0.3.0\" (instance)) (import \"wasi:sockets/tcp@0.2.12\" (instance)) \
                (import \"ckpt:host/memory\" (instance)))";
    let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let error = link(&mut Linker::new(&engine), &component).unwrap_err().to_string();
    assert!(error.contains("wasi:http/incoming-handler@0.2.6, other:thing/x, wasi:cli/stdout@0.3.0."), "{error}");
}

#[tokio::test]
async fn without_a_run_calls_are_refused_and_log_lines_go_nowhere() {
    let setup = Setup { machine: Machine::Micro, cpu: Arc::new(Default::default), run: None, begin: Begin::Fresh };
    let mut state = HostState::new(setup);
    assert_eq!(metadata::Host::read(&mut state).await.unwrap_err().code, HostErrorCode::Unavailable);
    let trap = context::Host::current(&mut state).await.unwrap_err().to_string();
    assert!(trap.contains("there is no run yet"), "{trap}");
    telemetry::Host::log(&mut state, Level::Info, "x".into(), String::new(), None).await.unwrap();
}

#[tokio::test]
async fn until_it_is_rebuilt_a_restored_instance_asks_for_nothing() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut guest = Guest::new(Begin::Restored, scratch.path(), &caller).await;
    guest.run("telemetry-log", (Level::Info, "started", "", None::<u64>)).await.unwrap();
    let token = WaitpointId::new().to_string();
    assert_eq!(guest.call::<_, u32>("wait-for-token-start", (token,)).await, 0);
    let outcome: Result<types::TokenOutcome, types::HostError> = guest.call("wait-for-token-finish", ()).await;
    assert!(matches!(outcome.unwrap_err().code, types::ErrorCode::Unavailable));
    assert_eq!(caller.asked(), []);
}

#[tokio::test]
async fn the_run_sees_who_it_is() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut state = state(Begin::Fresh, scratch.path(), caller);
    let seen = context::Host::current(&mut state).await.unwrap();
    assert_eq!((seen.attempt.number, seen.queue.name.as_str(), seen.machine.cpu), (2, "task/task", 0.25));
    assert_eq!((seen.run.root == seen.run.id, seen.traceparent.len()), (true, 55));
    assert_eq!(seen.deployment.unwrap().short_code.len(), 8);
    let used = context::Host::get_usage(&mut state).await.unwrap();
    assert_eq!((used.attempt.duration_ms, used.base_cost_in_cents), (1500.0, 0.5));
    assert!((seen.machine.cents_per_ms - 0.000_25).abs() < 1e-12, "a quarter of a vCPU at a cent for a second of one");
    assert!((used.attempt.cost_in_cents - 0.375).abs() < 1e-9, "{}", used.attempt.cost_in_cents);
}

#[tokio::test]
async fn what_cannot_be_saved_is_named() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut state = state(Begin::Fresh, scratch.path(), caller);
    assert_eq!(warm_reason(&state), None);
    let socket = state.ids.put(0, Kind::TcpSocket, Reopen::Never).unwrap();
    state.ids.put(0, Kind::Pollable, Reopen::Child(socket)).unwrap();
    let expected = "its tcp-socket (handle 1) cannot be saved; close it before the wait";
    assert_eq!(warm_reason(&state).as_deref(), Some(expected));
    state.ids.remove(socket).unwrap();
    assert!(warm_reason(&state).unwrap().contains("its pollable (handle 2) listens to something that cannot be saved"));
}
