//! A component written by hand, with the erased names and types that the rewriter gives: it hands each function through, so
//! that a test is the guest.

use std::{collections::BTreeMap, fmt::Write, path::Path, sync::Arc};

use wasmtime::{
    Config, Engine, Store,
    component::{Component, ComponentNamedList, Instance, Lift, Linker, Lower},
};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use crate::host::{
    Begin, HostState, link,
    testing::{Recorder, state},
    wasi::ids::ErasedStreamError,
};

/// What a stream's function answers.
pub type Streamed<T> = Result<T, ErasedStreamError>;

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
            "m-descriptor-x-read-directory | u32 | *(result u32 (error $error-code)) | i32",
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
pub struct Guest {
    store: Store<HostState>,
    instance: Instance,
}

impl Guest {
    pub async fn new(begin: Begin, scratch: &Path, caller: &Arc<Recorder>) -> Guest {
        let engine = Engine::new(&Config::new()).unwrap();
        let component = Component::new(&engine, wat::parse_str(component()).unwrap()).unwrap();
        let mut linker = Linker::new(&engine);
        link(&mut linker, &component).unwrap();
        let mut store = Store::new(&engine, state(begin, scratch, caller.clone()));
        store.limiter(|state| state.limiter());
        let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
        Guest { store, instance }
    }

    pub async fn try_call<P, R>(&mut self, name: &str, params: P) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lift + Send + Sync,
    {
        let function = self.instance.get_typed_func::<P, (R,)>(&mut self.store, name)?;
        Ok(function.call_async(&mut self.store, params).await?.0)
    }

    pub async fn call<P, R>(&mut self, name: &str, params: P) -> R
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lift + Send + Sync,
    {
        self.try_call(name, params).await.unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    pub async fn run<P>(&mut self, name: &str, params: P) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lower + Send + Sync,
    {
        let function = self.instance.get_typed_func::<P, ()>(&mut self.store, name)?;
        function.call_async(&mut self.store, params).await
    }

    pub async fn print(&mut self, stream: u32, text: &str) -> Streamed<()> {
        self.call("streams-m-output-stream-x-blocking-write-and-flush", (stream, text.as_bytes().to_vec())).await
    }

    pub async fn read(&mut self, stream: u32, length: u64) -> Streamed<Vec<u8>> {
        let pollable: u32 = self.call("streams-m-input-stream-x-subscribe", (stream,)).await;
        assert_eq!(self.call::<_, u32>("poll-m-pollable-x-block-start", (pollable,)).await, 0);
        self.run("poll-m-pollable-x-block-finish", ()).await.unwrap();
        self.run("handles-drop", (pollable,)).await.unwrap();
        self.call("streams-m-input-stream-x-read", (stream, length)).await
    }

    pub async fn open(&mut self, path: &str, flags: DescriptorFlags) -> u32 {
        self.try_open(path, flags).await.unwrap()
    }

    pub async fn try_open(&mut self, path: &str, flags: DescriptorFlags) -> Result<u32, ErrorCode> {
        let directories: Vec<(u32, String)> = self.call("preopens-get-directories", ()).await;
        let (directory, name) = &directories[0];
        assert_eq!(name, "/");
        let params = (*directory, PathFlags::empty(), path, OpenFlags::CREATE, flags);
        self.call("types-m-descriptor-x-open-at", params).await
    }

    pub async fn stream(&mut self, how: &str, file: u32, at: u64) -> u32 {
        let name = format!("types-m-descriptor-x-{how}-via-stream");
        let stream: Result<u32, ErrorCode> = self.call(&name, (file, at)).await;
        stream.unwrap()
    }

    pub fn state(&mut self) -> &mut HostState {
        self.store.data_mut()
    }
}
