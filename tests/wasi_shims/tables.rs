//! What the WIT does not say. A line that matches no function fails the generator, so none outlives what it is about.

/// Interfaces without shims: exported by guests rather than imported, or without an implementation in wasmtime-wasi.
pub const LEFT_OUT: &[&str] = &["wasi:cli/run", "wasi:clocks/timezone", "wasi:http/incoming-handler"];

/// Functions that this host implements itself, by their path; they take the whole state and their arguments.
pub const OURS: &[(&str, &str)] = &[
    ("wasi:filesystem/types.[method]descriptor.open-at", "super::files::open_at"),
    ("wasi:filesystem/types.[method]descriptor.read-directory", "super::files::read_directory"),
    ("wasi:http/outgoing-handler.handle", "crate::host::http::handle"),
    ("wasi:http/types.http-error-code", "crate::host::http::error_code"),
];

/// Functions that wasmtime-wasi implements as `async`, because they wait or touch the disk.
pub const ASYNC: &[&str] = &[
    "wasi:io/poll.poll",
    "wasi:io/poll.[method]pollable.block",
    "wasi:io/poll.[method]pollable.ready",
    "wasi:io/streams.[method]input-stream.blocking-read",
    "wasi:io/streams.[method]input-stream.blocking-skip",
    "wasi:io/streams.[method]output-stream.blocking-splice",
    "wasi:io/streams.[method]output-stream.blocking-flush",
    "wasi:io/streams.[method]output-stream.blocking-write-and-flush",
    "wasi:io/streams.[method]output-stream.blocking-write-zeroes-and-flush",
    "wasi:filesystem/types.[method]descriptor.advise",
    "wasi:filesystem/types.[method]descriptor.create-directory-at",
    "wasi:filesystem/types.[method]descriptor.get-flags",
    "wasi:filesystem/types.[method]descriptor.get-type",
    "wasi:filesystem/types.[method]descriptor.is-same-object",
    "wasi:filesystem/types.[method]descriptor.link-at",
    "wasi:filesystem/types.[method]descriptor.metadata-hash",
    "wasi:filesystem/types.[method]descriptor.metadata-hash-at",
    "wasi:filesystem/types.[method]descriptor.open-at",
    "wasi:filesystem/types.[method]descriptor.read",
    "wasi:filesystem/types.[method]descriptor.read-directory",
    "wasi:filesystem/types.[method]descriptor.readlink-at",
    "wasi:filesystem/types.[method]descriptor.remove-directory-at",
    "wasi:filesystem/types.[method]descriptor.rename-at",
    "wasi:filesystem/types.[method]descriptor.set-size",
    "wasi:filesystem/types.[method]descriptor.set-times",
    "wasi:filesystem/types.[method]descriptor.set-times-at",
    "wasi:filesystem/types.[method]descriptor.stat",
    "wasi:filesystem/types.[method]descriptor.stat-at",
    "wasi:filesystem/types.[method]descriptor.symlink-at",
    "wasi:filesystem/types.[method]descriptor.sync",
    "wasi:filesystem/types.[method]descriptor.sync-data",
    "wasi:filesystem/types.[method]descriptor.unlink-file-at",
    "wasi:filesystem/types.[method]descriptor.write",
    "wasi:filesystem/types.[method]directory-entry-stream.read-directory-entry",
    "wasi:sockets/udp-create-socket.create-udp-socket",
    "wasi:sockets/tcp.[method]tcp-socket.start-bind",
    "wasi:sockets/tcp.[method]tcp-socket.start-listen",
    "wasi:sockets/udp.[method]udp-socket.start-bind",
    "wasi:sockets/udp.[method]udp-socket.stream",
];

/// Resources whose drop waits for work in the background to stop.
pub const ASYNC_DROP: &[&str] = &["input-stream", "output-stream", "outgoing-datagram-stream"];

/// Error types that wasmtime-wasi carries as its own error, from which a trap has to be told apart: the interface, the type and
/// the method of the interface's `Host` that does it.
pub const TRAPPABLE: &[(&str, &str, &str)] = &[
    ("wasi:io/streams", "stream-error", "convert_stream_error"),
    ("wasi:filesystem/types", "error-code", "convert_error_code"),
    ("wasi:sockets/network", "error-code", "convert_error_code"),
    ("wasi:http/types", "error-code", "convert_error_code"),
    ("wasi:http/types", "header-error", "convert_header_error"),
];

/// Packages whose resources are last in the list of kinds, in this order. Snapshots name a kind by its place in that list.
pub const LATER: &[&str] = &["http"];

/// How what a function gives out is made again after a restore, over the function's arguments `a0`, `a1`, … What is not named
/// here cannot be: `Reopen::Never`; a `subscribe` is `Reopen::Child` of what it subscribes to.
pub const REOPEN: &[(&str, &str)] = &[
    ("wasi:cli/stdin.get-stdin", "Reopen::Stdin"),
    ("wasi:cli/stdout.get-stdout", "Reopen::Stdout"),
    ("wasi:cli/stderr.get-stderr", "Reopen::Stderr"),
    ("wasi:clocks/monotonic-clock.subscribe-instant", "Reopen::Timer(a0)"),
    // A duration counts from the call: a restored timer must not begin anew.
    ("wasi:clocks/monotonic-clock.subscribe-duration", "Reopen::Timer(state.clock.now().saturating_add(a0))"),
    ("wasi:filesystem/preopens.get-directories", "state.preopen()?"),
    ("wasi:filesystem/types.[method]descriptor.open-at", "state.ids.file_at(a0, a1, &a2, a3, a4)"),
    ("wasi:filesystem/types.[method]descriptor.read-via-stream", "state.of_file(a0, |file| Reopen::Read(file, a1))"),
    ("wasi:filesystem/types.[method]descriptor.write-via-stream", "state.of_file(a0, |file| Reopen::Write(file, a1))"),
    ("wasi:filesystem/types.[method]descriptor.append-via-stream", "state.of_file(a0, Reopen::Append)"),
    ("wasi:filesystem/types.[method]descriptor.read-directory", "state.of_file(a0, |directory| Reopen::Entries(directory, 0))"),
    ("wasi:http/types.[constructor]fields", "Reopen::fields(true)"),
    ("wasi:http/types.[static]fields.from-list", "Reopen::fields(true)"),
    ("wasi:http/types.[method]fields.clone", "Reopen::fields(true)"),
    ("wasi:http/types.[method]outgoing-request.headers", "Reopen::fields(false)"),
    ("wasi:http/types.[method]incoming-response.headers", "Reopen::fields(false)"),
    ("wasi:http/types.[method]future-trailers.get", "Reopen::fields(false)"),
    // What belongs to one request and its answer: whether it is over is asked when the run waits.
    ("wasi:http/outgoing-handler.handle", "state.begin_exchange()"),
    ("wasi:http/types.[method]future-incoming-response.get", "state.ids.exchange_of(a0)"),
    ("wasi:http/types.[method]incoming-response.consume", "state.ids.exchange_of(a0)"),
    ("wasi:http/types.[method]incoming-body.stream", "state.ids.exchange_of(a0)"),
    ("wasi:http/types.[static]incoming-body.finish", "state.ids.exchange_of(a0)"),
    // Guests that link sockets ask for the network when they start; it holds nothing.
    ("wasi:sockets/instance-network.instance-network", "Reopen::Network"),
];

/// Calls that move a stream or a listing on, so that it is made again where it stood: the handle's argument and by how much,
/// over `value`, what the call returned, and `length`, how many bytes its second argument held.
pub const MOVES: &[(&str, &[(&str, &str)])] = &[
    ("wasi:io/streams.[method]input-stream.read", &[("a0", "value.len() as u64")]),
    ("wasi:io/streams.[method]input-stream.blocking-read", &[("a0", "value.len() as u64")]),
    ("wasi:io/streams.[method]input-stream.skip", &[("a0", "*value")]),
    ("wasi:io/streams.[method]input-stream.blocking-skip", &[("a0", "*value")]),
    ("wasi:io/streams.[method]output-stream.write", &[("a0", "length")]),
    ("wasi:io/streams.[method]output-stream.blocking-write-and-flush", &[("a0", "length")]),
    ("wasi:io/streams.[method]output-stream.write-zeroes", &[("a0", "a1")]),
    ("wasi:io/streams.[method]output-stream.blocking-write-zeroes-and-flush", &[("a0", "a1")]),
    ("wasi:io/streams.[method]output-stream.splice", &[("a0", "*value"), ("a1", "*value")]),
    ("wasi:io/streams.[method]output-stream.blocking-splice", &[("a0", "*value"), ("a1", "*value")]),
    ("wasi:filesystem/types.[method]directory-entry-stream.read-directory-entry", &[("a0", "value.is_some() as u64")]),
];
