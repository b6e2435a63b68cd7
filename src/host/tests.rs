//! The host as a rewritten component sees it: erased names, numbers for handles, both halves of every wait.
//!
//! The component is written here by hand and hands each function through, so that a test is the guest.

use std::{collections::BTreeMap, fmt::Write, path::Path, sync::Arc};

use chrono::{TimeDelta, Utc};
use wasmtime::{
    Config, Engine, Store,
    component::{Component, ComponentNamedList, Instance, Lift, Linker, Lower},
};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use super::{
    Begin, HostState, exit_code, link,
    task::bindings::dormouse::task::{telemetry::Level, types},
    testing::{Asked, Recorder, state},
    wasi::ids::ErasedStreamError,
};
use crate::model::{
    id::WaitpointId,
    log::Source,
    payload::Packet,
    waitpoint::{Completion, Resolution, WaitRequest},
};

type Streamed<T> = Result<T, ErasedStreamError>;

const STREAM_ERROR: &str = "(type $se (variant (case \"last-operation-failed\" u32) (case \"closed\"))) \
    (export \"stream-error\" (type $stream-error (eq $se)))";
const FILE_TYPES: &str = "(type $ec (enum \"access\" \"would-block\" \"already\" \"bad-descriptor\" \"busy\" \"deadlock\" \
    \"quota\" \"exist\" \"file-too-large\" \"illegal-byte-sequence\" \"in-progress\" \"interrupted\" \"invalid\" \"io\" \
    \"is-directory\" \"loop\" \"too-many-links\" \"message-size\" \"name-too-long\" \"no-device\" \"no-entry\" \"no-lock\" \
    \"insufficient-memory\" \"insufficient-space\" \"not-directory\" \"not-empty\" \"not-recoverable\" \"unsupported\" \
    \"no-tty\" \"no-such-device\" \"overflow\" \"not-permitted\" \"pipe\" \"read-only\" \"invalid-seek\" \
    \"text-file-busy\" \"cross-device\")) (export \"error-code\" (type $error-code (eq $ec))) \
    (type $pf (flags \"symlink-follow\")) (export \"path-flags\" (type $path-flags (eq $pf))) \
    (type $of (flags \"create\" \"directory\" \"exclusive\" \"truncate\")) (export \"open-flags\" (type $open-flags (eq $of))) \
    (type $df (flags \"read\" \"write\" \"file-integrity-sync\" \"data-integrity-sync\" \"requested-write-sync\" \
    \"mutate-directory\")) (export \"descriptor-flags\" (type $descriptor-flags (eq $df)))";
const TASK_TYPES: &str = "(type $c (enum \"invalid\" \"denied\" \"not-found\" \"conflict\" \"too-large\" \"rate-limited\" \
    \"cancelled\" \"unavailable\" \"internal\")) (export \"error-code\" (type $code (eq $c))) \
    (type $he (record (field \"code\" $code) (field \"message\" string) (field \"retry-after-ms\" (option u64)))) \
    (export \"host-error\" (type $host-error (eq $he))) \
    (type $s (enum \"run\" \"attempt\" \"global\")) (export \"idempotency-scope\" (type $scope (eq $s))) \
    (type $i (record (field \"key\" string) (field \"ttl-ms\" (option u64)) (field \"user-key\" (option string)) \
    (field \"scope\" (option $scope)))) (export \"idempotency\" (type $idempotency (eq $i))) \
    (type $p (record (field \"data\" (list u8)) (field \"content-type\" string))) (export \"packet\" (type $packet (eq $p))) \
    (type $o (variant (case \"completed\" $packet) (case \"timed-out\" u64))) (export \"token-outcome\" (type $outcome (eq $o)))";
const LEVEL: &str = "(type $l (enum \"debug\" \"log\" \"info\" \"warn\" \"error\")) (export \"level\" (type $level (eq $l)))";

/// Imported instances: name, types, and functions as `name | parameters | result | core parameters`. A result that does not
/// fit one core value is marked `*`.
const IMPORTS: &[(&str, &str, &[&str])] = &[
    ("ckpt:host/handles", "", &["drop | u32 | | i32"]),
    ("wasi:cli/stdout@0.2.0", "", &["get-stdout | | u32 |"]),
    ("wasi:cli/environment@0.2.3", "", &["get-environment | | *(list (tuple string string)) |"]),
    ("wasi:cli/exit@0.2.3", "", &["exit | (result) | | i32"]),
    ("wasi:random/random@0.2.6", "", &["get-random-u64 | | u64 |", "get-random-bytes | u64 | *(list u8) | i64"]),
    ("wasi:clocks/monotonic-clock@0.2.6", "", &["now | | u64 |", "subscribe-duration | u64 | u32 | i64"]),
    (
        "wasi:io/poll@0.2.6",
        "(export \"pollable\" (type (sub resource)))",
        &[
            "m-pollable-x-ready | u32 | bool | i32",
            "poll-start | (list u32) | u32 | i32 i32",
            "poll-finish | | *(list u32) |",
            "m-pollable-x-block-start | u32 | u32 | i32",
            "m-pollable-x-block-finish | | |",
        ],
    ),
    (
        "wasi:io/streams@0.2.6",
        STREAM_ERROR,
        &[
            "m-output-stream-x-blocking-write-and-flush | u32 (list u8) | *(result (error $stream-error)) | i32 i32 i32",
            "m-input-stream-x-read | u32 u64 | *(result (list u8) (error $stream-error)) | i32 i64",
            "m-input-stream-x-subscribe | u32 | u32 | i32",
        ],
    ),
    ("wasi:filesystem/preopens@0.2.6", "", &["get-directories | | *(list (tuple u32 string)) |"]),
    (
        "wasi:filesystem/types@0.2.6",
        FILE_TYPES,
        &[
            "m-descriptor-x-open-at | u32 $path-flags string $open-flags $descriptor-flags | *(result u32 (error $error-code)) \
             | i32 i32 i32 i32 i32 i32",
            "m-descriptor-x-read-via-stream | u32 u64 | *(result u32 (error $error-code)) | i32 i64",
            "m-descriptor-x-write-via-stream | u32 u64 | *(result u32 (error $error-code)) | i32 i64",
        ],
    ),
    (
        "dormouse:task/wait@0.1.0",
        TASK_TYPES,
        &[
            "for-duration-start | u64 (option $idempotency) | u32 \
             | i64 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32",
            "for-duration-finish | | *(result (error $host-error)) |",
            "for-token-start | string | u32 | i32 i32",
            "for-token-finish | | *(result $outcome (error $host-error)) |",
        ],
    ),
    ("dormouse:task/telemetry@0.1.0", LEVEL, &["log | $level string string (option u64) | | i32 i32 i32 i32 i32 i32 i64"]),
];

/// One function, taken apart.
struct Function {
    name: &'static str,
    params: Vec<String>,
    result: String,
    core: String,
    is_in_memory: bool,
}

fn function(line: &'static str) -> Function {
    let parts: Vec<&str> = line.split('|').map(str::trim).collect();
    let (mut params, mut depth) = (vec![String::new()], 0);
    for letter in parts[1].chars() {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        if letter == ' ' && depth == 0 { params.push(String::new()) } else { params.last_mut().unwrap().push(letter) }
    }
    params.retain(|param| !param.is_empty());
    let result = parts[2].trim_start_matches('*').to_owned();
    Function { name: parts[0], params, result, core: parts[3].to_owned(), is_in_memory: parts[2].starts_with('*') }
}

/// The type of a function; `types` says what the named types are called here.
fn signature(function: &Function, types: &BTreeMap<String, String>) -> String {
    let rename = |text: &str| types.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let params = function.params.iter().enumerate().map(|(n, ty)| format!("(param \"p{n}\" {})", rename(ty)));
    let result = if function.result.is_empty() { String::new() } else { format!("(result {})", rename(&function.result)) };
    format!("{} {result}", params.collect::<Vec<_>>().join(" "))
}

/// The component: each function of each instance lowered, called by a core function, and lifted again under
/// `<interface>-<function>`.
fn component() -> String {
    let (mut imports, mut lowers, mut core, mut instances, mut lifts) =
        (String::new(), String::new(), String::new(), String::new(), String::new());
    for (place, (import, declared, functions)) in IMPORTS.iter().enumerate() {
        let interface = import.split(['/', '@']).nth(1).unwrap();
        write!(imports, "(import \"{import}\" (instance $i{place} {declared} ").unwrap();
        write!(core, "").unwrap();
        let mut types = BTreeMap::new();
        for name in declared.split("(export \"").skip(1).filter_map(|rest| rest.split_once('"')) {
            let Some(variable) = name.1.split_once("(type $").and_then(|(_, rest)| rest.split(' ').next()) else { continue };
            types.insert(format!("${variable}"), format!("$t{place}-{variable}"));
            write!(lowers, "(alias export $i{place} \"{}\" (type $t{place}-{variable}))", name.0).unwrap();
        }
        write!(instances, "(with \"{interface}\" (instance ").unwrap();
        for line in *functions {
            let f = function(line);
            let name = f.name;
            write!(imports, "(export \"{name}\" (func {})) ", signature(&f, &BTreeMap::new())).unwrap();
            let id = format!("{interface}-{name}");
            let options = "(memory (core memory $libc \"memory\")) (realloc (core func $libc \"realloc\"))";
            write!(lowers, "(core func ${id} (canon lower (func $i{place} \"{name}\") {options}))").unwrap();
            write!(instances, "(export \"{name}\" (func ${id}))").unwrap();
            let result = if f.result.is_empty() || f.is_in_memory {
                ""
            } else if f.result == "u64" {
                "(result i64)"
            } else {
                "(result i32)"
            };
            let (pointer, outer) = if f.is_in_memory { ("i32", "(result i32)") } else { ("", result) };
            let params = &f.core;
            write!(core, "(import \"{interface}\" \"{name}\" (func ${id} (param {params} {pointer}) {result}))").unwrap();
            let gets: String =
                (0..params.split_whitespace().count()).map(|n| format!("(local.get {n})")).collect::<Vec<_>>().join(" ");
            let call = match f.is_in_memory {
                true => format!("(call ${id} {gets} (i32.const 64)) (i32.const 64)"),
                false => format!("(call ${id} {gets})"),
            };
            write!(
                lifts,
                "(func (export \"{id}\") {} (canon lift (core func $main \"{id}\") {options})) ",
                signature(&f, &types)
            )
            .unwrap();
            // Defined functions follow all imports.
            write!(core, "\u{1}(func (export \"{id}\") (param {params}) {outer} {call})\u{1}").unwrap();
        }
        imports.push_str("))\n");
        instances.push_str("))");
    }
    let (mut core_imports, mut core_functions) = (String::new(), String::new());
    for (place, piece) in core.split('\u{1}').enumerate() {
        if place % 2 == 0 { core_imports.push_str(piece) } else { core_functions.push_str(piece) }
    }
    format!(
        "(component {imports}
            (core module $Libc
                (memory (export \"memory\") 1)
                (global $next (mut i32) (i32.const 1024))
                (func (export \"realloc\") (param i32 i32 i32 i32) (result i32)
                    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
                    (global.get $next)
                    (global.set $next (i32.add (global.get $next) (local.get 3)))))
            (core instance $libc (instantiate $Libc))
            {lowers}
            (core module $Main {core_imports} {core_functions})
            (core instance $main (instantiate $Main {instances}))
            {lifts})"
    )
}

/// A live instance of the component.
struct Guest {
    store: Store<HostState>,
    instance: Instance,
}

impl Guest {
    async fn new(begin: Begin, scratch: &Path, caller: &Arc<Recorder>) -> Guest {
        let engine = Engine::new(&Config::new()).unwrap();
        let component = Component::new(&engine, component()).unwrap();
        let mut linker = Linker::new(&engine);
        link(&mut linker, &component).unwrap();
        let mut store = Store::new(&engine, state(begin, scratch, caller.clone()));
        store.limiter(|state| state.limiter());
        let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
        Guest { store, instance }
    }

    async fn try_call<P, R>(&mut self, name: &str, params: P) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lift + Send + Sync,
    {
        let function = self.instance.get_typed_func::<P, (R,)>(&mut self.store, name)?;
        Ok(function.call_async(&mut self.store, params).await?.0)
    }

    async fn call<P, R>(&mut self, name: &str, params: P) -> R
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lift + Send + Sync,
    {
        self.try_call(name, params).await.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    async fn run<P>(&mut self, name: &str, params: P) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lower + Send + Sync,
    {
        let function = self.instance.get_typed_func::<P, ()>(&mut self.store, name)?;
        function.call_async(&mut self.store, params).await
    }

    async fn print(&mut self, stream: u32, text: &str) -> Streamed<()> {
        self.call("streams-m-output-stream-x-blocking-write-and-flush", (stream, text.as_bytes().to_vec())).await
    }

    async fn read(&mut self, stream: u32, length: u64) -> Streamed<Vec<u8>> {
        for _ in 0..1000 {
            let bytes: Streamed<Vec<u8>> = self.call("streams-m-input-stream-x-read", (stream, length)).await;
            if !matches!(&bytes, Ok(bytes) if bytes.is_empty()) {
                return bytes;
            }
            tokio::task::yield_now().await;
        }
        panic!("nothing to read");
    }

    async fn open(&mut self, path: &str, flags: DescriptorFlags) -> u32 {
        let directories: Vec<(u32, String)> = self.call("preopens-get-directories", ()).await;
        let (directory, name) = &directories[0];
        assert_eq!(name, "/");
        let params = (*directory, PathFlags::empty(), path, OpenFlags::CREATE, flags);
        let opened: Result<u32, ErrorCode> = self.call("types-m-descriptor-x-open-at", params).await;
        opened.unwrap()
    }

    async fn stream(&mut self, how: &str, file: u32, at: u64) -> u32 {
        let name = format!("types-m-descriptor-x-{how}-via-stream");
        let stream: Result<u32, ErrorCode> = self.call(&name, (file, at)).await;
        stream.unwrap()
    }

    fn state(&mut self) -> &mut HostState {
        self.store.data_mut()
    }
}

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
    let timer: u32 = guest.call("monotonic-clock-subscribe-duration", (6_000_000_000u64,)).await;
    assert_eq!(guest.call::<_, u32>("poll-poll-start", (vec![timer],)).await, 1);
    guest.state().take_suspended().unwrap();
    let before: u64 = guest.call("monotonic-clock-now", ()).await;
    let saved = guest.state().save().await;
    drop(guest);

    let mut guest = Guest::new(Begin::Restored, scratch.path(), &caller).await;
    // What start functions do on the way is neither seen nor kept.
    let stray: u32 = guest.call("stdout-get-stdout", ()).await;
    guest.print(stray, "again\n").await.unwrap();
    assert!(saved.len() < 300, "{} bytes", saved.len());
    guest.state().rebuild(&saved).await.unwrap();
    guest.state().answer(Vec::new());
    let after: u64 = guest.call("monotonic-clock-now", ()).await;
    assert!(after >= before);
    guest.print(stdout, "a line\n").await.unwrap();
    assert_eq!(caller.messages(), ["half a line"]);
    assert_eq!(guest.read(reader, 3).await.unwrap(), b"456");
    assert!(guest.call::<_, bool>("poll-m-pollable-x-ready", (ready,)).await);
    guest.print(writer, "two").await.unwrap();
    assert_eq!(std::fs::read_to_string(scratch.path().join("out")).unwrap(), "one two");
    assert!(!guest.call::<_, bool>("poll-m-pollable-x-ready", (timer,)).await);
    assert_eq!(guest.call::<_, Vec<u32>>("poll-poll-finish", ()).await, [0]);
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
    let expected = "the run stays in memory while it waits: its descriptor (handle 2) is open on \"gone\", which was deleted \
                    or renamed; close it before the wait";
    assert_eq!(reason, expected);
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
    assert_eq!(caller.asked(), [Asked::Wait(WaitRequest::Any { waitpoints: vec![token] }, None)]);
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
    assert_eq!(record.attributes, serde_json::json!({"n": 1, "span": "00000000000000ff"}));
}

#[test]
fn unknown_imports_are_all_named() {
    let engine = Engine::new(&Config::new()).unwrap();
    let text = "(component (import \"wasi:http/types@0.2.6\" (instance)) (import \"other:thing/x\" (instance)) \
                (import \"ckpt:host/memory\" (instance)))";
    let component = Component::new(&engine, text).unwrap();
    let error = link(&mut Linker::new(&engine), &component).unwrap_err().to_string();
    assert!(error.contains("wasi:http/types@0.2.6, other:thing/x."), "{error}");
}
