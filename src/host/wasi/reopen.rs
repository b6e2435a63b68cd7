//! Handles over a snapshot: which of them can be saved, and how they are made again.
//!
//! Standard streams, timers, files of the scratch directory, and what is left of HTTP requests that are over come back as they
//! were. What is gone by then (a file that another machine does not have) comes back as a stream whose operations fail, or as a
//! handle that traps when it is used.

use std::{collections::HashMap, path::Path};

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime::{component::Resource, format_err};
use wasmtime_wasi::{
    cli::WasiCliView,
    clocks::WasiClocksView,
    filesystem::{Descriptor, WasiFilesystemView},
    p2::{
        DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
        bindings::{
            cli::{stderr, stdin, stdout},
            clocks::monotonic_clock,
            filesystem::{
                preopens,
                types::{DescriptorFlags, HostDescriptor, HostDirectoryEntryStream, OpenFlags, PathFlags},
            },
            io::{
                error::HostError as _,
                streams::{HostInputStream, HostOutputStream},
            },
            sockets::instance_network,
        },
        subscribe,
    },
    sockets::WasiSocketsView,
};
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::bindings::http::types::{HostFutureIncomingResponse, HostFutureTrailers},
};

use super::{
    exchange,
    files::{self, Identity, identity, identity_of},
    generated::Kind,
    ids::{DESCRIPTOR_FLAGS, Entry, Ids, Location, Reopen, SavedIds},
};
use crate::host::HostState;

/// Why a run with these handles must stay in memory while it waits, for people; none: it can be suspended.
pub fn warm_reason(state: &HostState) -> Option<String> {
    let scratch = state.run.as_ref().map(|run| run.scratch.as_path());
    state.ids.iter().find_map(|(id, entry)| obstacle(state, entry, scratch).map(|what| (id, entry, what))).map(
        |(id, entry, what)| {
            let name = entry.kind.name();
            format!("its {name} (handle {id}) {what}; close it before the wait")
        },
    )
}

/// What keeps a handle from being saved.
fn obstacle(state: &HostState, entry: &Entry, scratch: Option<&Path>) -> Option<String> {
    match (&entry.reopen, &entry.place) {
        // It was lost before and is no worse afterwards.
        (_, Err(_)) => None,
        (Reopen::Never, _) => Some("cannot be saved".into()),
        (Reopen::Exchange(number), Ok(place)) => exchange::obstacle(state, entry.kind, *place, *number).map(Into::into),
        (Reopen::Child(parent), _) => match state.ids.get(*parent) {
            Some(parent) => obstacle(state, parent, scratch),
            None => Some("listens to something that cannot be saved".into()),
        },
        (Reopen::File(location), Ok(place)) => is_elsewhere(location, identity_of(&state.table, *place), scratch?),
        (Reopen::Read(location, _) | Reopen::Write(location, _) | Reopen::Append(location) | Reopen::Entries(location, _), _) => {
            is_elsewhere(location, location.identity, scratch?)
        }
        _ => None,
    }
}

/// Whether by the path there is another file now than the one that is open, or none.
fn is_elsewhere(location: &Location, open: Option<Identity>, scratch: &Path) -> Option<String> {
    let found = std::fs::metadata(scratch.join(&*location.path)).ok().as_ref().map(identity);
    let is_same = open.is_some() && open == found;
    (!is_same).then(|| format!("is open on {:?}, which was deleted or renamed", location.path))
}

/// Waits until everything written has reached its file, then tells what to keep. A write that failed is kept as a stream that
/// fails.
pub async fn save(state: &mut HostState) -> SavedIds {
    let writers = state.ids.iter().filter(|(_, entry)| matches!(entry.reopen, Reopen::Write(..) | Reopen::Append(_)));
    let writers: Vec<(u32, u32)> = writers.filter_map(|(id, entry)| Some((id, *entry.place.as_ref().ok()?))).collect();
    let mut failed = Vec::new();
    for (id, place) in writers {
        if let Err(error) = HostOutputStream::blocking_flush(&mut state.table, Resource::new_borrow(place)).await {
            failed.push((id, error.to_string()));
        }
    }
    let HostState { table, ids, .. } = state;
    let mut saved = ids.save(|entry, place| match &entry.reopen {
        Reopen::Failure(_) => Some(Reopen::Failure(table.to_debug_string(Resource::new_borrow(place)).unwrap_or_default())),
        _ => exchange::content(table, entry, place),
    });
    for (id, _, reopen) in &mut saved.live {
        if let Some((_, reason)) = failed.iter().find(|(failed, _)| failed == id) {
            *reopen = Reopen::Failure(reason.clone());
        }
    }
    saved
}

/// Makes the saved handles again, in place of all that the instance has.
///
/// # Errors
/// What is wrong with `saved`.
pub async fn rebuild(state: &mut HostState, saved: SavedIds) -> Result<(), String> {
    state.table = HostState::empty_table();
    state.ids = Ids::go_on(&saved)?;
    // Subscriptions need what they subscribe to.
    let (children, others): (Vec<_>, Vec<_>) =
        saved.live.into_iter().partition(|(_, _, reopen)| matches!(reopen, Reopen::Child(_)));
    // What is open on one file shares a descriptor, as streams did with the one they were made of.
    let mut opened = Opened::new();
    for (id, kind, mut reopen) in others.into_iter().chain(children) {
        let place = match open(state, kind, &mut reopen, &mut opened).await {
            Ok(place) => Ok(place),
            Err(error) => lost(state, kind, format!("{error:#}")),
        };
        state.ids.put_back(id, kind, reopen, place);
    }
    Ok(())
}

type Opened = HashMap<Location, Descriptor>;

/// Makes one thing again: its place in the resource table.
async fn open(state: &mut HostState, kind: Kind, reopen: &mut Reopen, opened: &mut Opened) -> wasmtime::Result<u32> {
    Ok(match reopen {
        Reopen::Never => return Err(format_err!("it cannot be opened again")),
        Reopen::Failure(text) if kind == Kind::Error => state.table.push(format_err!("{text}"))?.rep(),
        Reopen::Failure(text) => return Err(format_err!("{text}")),
        Reopen::Stdin => stdin::Host::get_stdin(&mut state.cli())?.rep(),
        Reopen::Stdout => stdout::Host::get_stdout(&mut state.cli())?.rep(),
        Reopen::Stderr => stderr::Host::get_stderr(&mut state.cli())?.rep(),
        Reopen::Network => instance_network::Host::instance_network(&mut state.sockets())?.rep(),
        Reopen::Timer(deadline) => monotonic_clock::Host::subscribe_instant(&mut state.clocks(), *deadline)?.rep(),
        Reopen::Child(parent) => subscribe_to(state, *parent)?,
        Reopen::File(location) => open_file(state, location, opened).await?.rep(),
        Reopen::Read(..) | Reopen::Write(..) | Reopen::Append(_) | Reopen::Entries(..) => {
            open_on_file(state, reopen, opened).await?
        }
        Reopen::Fields(..) | Reopen::Exchange(_) | Reopen::Response(..) | Reopen::Ended | Reopen::Empty | Reopen::Taken => {
            exchange::open(state, kind, reopen)?
        }
    })
}

fn subscribe_to(state: &mut HostState, parent: u32) -> wasmtime::Result<u32> {
    let parent = state.ids.get(parent).ok_or_else(|| format_err!("what it listened to is gone"))?;
    let place = parent.place.clone().map_err(|reason| format_err!("{reason}"))?;
    Ok(match parent.kind {
        Kind::InputStream => HostInputStream::subscribe(&mut state.table, Resource::new_borrow(place))?.rep(),
        Kind::OutputStream => HostOutputStream::subscribe(&mut state.table, Resource::new_borrow(place))?.rep(),
        Kind::FutureIncomingResponse => {
            HostFutureIncomingResponse::subscribe(&mut state.http(), Resource::new_borrow(place))?.rep()
        }
        Kind::FutureTrailers => HostFutureTrailers::subscribe(&mut state.http(), Resource::new_borrow(place))?.rep(),
        other => return Err(format_err!("a {} cannot be listened to again", other.name())),
    })
}

async fn open_file(state: &mut HostState, location: &Location, opened: &mut Opened) -> wasmtime::Result<Resource<Descriptor>> {
    if let Some(descriptor) = opened.get(location) {
        return Ok(state.table.push(descriptor.clone())?);
    }
    state.preopen()?;
    let mut filesystem = state.filesystem();
    let mut preopens = preopens::Host::get_directories(&mut filesystem)?;
    let is_there = (location.preopen as usize) < preopens.len();
    let directory = is_there.then(|| preopens.swap_remove(location.preopen as usize).0);
    for (other, _) in preopens {
        HostDescriptor::drop(&mut filesystem, other)?;
    }
    let directory = directory.ok_or_else(|| format_err!("there is no preopened directory {}", location.preopen))?;
    if location.path.is_empty() {
        return Ok(directory);
    }
    let path_flags = if location.is_followed { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
    let open_flags = if location.is_directory { OpenFlags::DIRECTORY } else { OpenFlags::empty() };
    let flags = DESCRIPTOR_FLAGS.iter().enumerate().filter(|(place, _)| location.flags & 1 << place != 0);
    let flags = flags.fold(DescriptorFlags::empty(), |all, (_, flag)| all | *flag);
    let borrowed = Resource::new_borrow(directory.rep());
    let file = files::open_again(state, borrowed, path_flags, location.path.to_string(), open_flags, flags).await;
    HostDescriptor::drop(&mut state.filesystem(), directory)?;
    let file = file.map_err(|error| format_err!("{:?} cannot be opened: {error}", location.path))?;
    opened.insert(location.clone(), state.table.get(&file)?.clone());
    Ok(file)
}

/// A stream or a listing; it holds its file by itself, so the descriptor it is made of is closed again.
async fn open_on_file(state: &mut HostState, reopen: &mut Reopen, opened: &mut Opened) -> wasmtime::Result<u32> {
    let (Reopen::Read(location, _) | Reopen::Write(location, _) | Reopen::Append(location) | Reopen::Entries(location, _)) =
        reopen
    else {
        return Err(format_err!("it is not made of a file"));
    };
    let file = open_file(state, location, opened).await?;
    location.identity = identity_of(&state.table, file.rep());
    let path = location.path.clone();
    let mut filesystem = state.filesystem();
    let borrowed = Resource::new_borrow(file.rep());
    let opened = match reopen {
        Reopen::Read(_, at) => filesystem.read_via_stream(borrowed, *at).map(|stream| stream.rep()),
        Reopen::Write(_, at) => filesystem.write_via_stream(borrowed, *at).map(|stream| stream.rep()),
        Reopen::Append(_) => filesystem.append_via_stream(borrowed).map(|stream| stream.rep()),
        _ => filesystem.read_directory(borrowed).await.map(|listing| listing.rep()),
    };
    HostDescriptor::drop(&mut filesystem, file)?;
    let place = opened.map_err(|error| format_err!("{path:?} cannot be opened: {error}"))?;
    if let Reopen::Entries(_, read) = reopen {
        for _ in 0..*read {
            let entry = HostDirectoryEntryStream::read_directory_entry(&mut filesystem, Resource::new_borrow(place)).await;
            if !matches!(entry, Ok(Some(_))) {
                break;
            }
        }
    }
    Ok(place)
}

/// What stands in for a thing that could not be made again.
fn lost(state: &mut HostState, kind: Kind, reason: String) -> Result<u32, String> {
    let stand_in = Lost(reason.clone());
    let place = match kind {
        Kind::InputStream => state.table.push(Box::new(stand_in) as DynInputStream).map(|stream| stream.rep()),
        Kind::OutputStream => state.table.push(Box::new(stand_in) as DynOutputStream).map(|stream| stream.rep()),
        Kind::Pollable => {
            let place = state.table.push(stand_in).map_err(|error| error.to_string())?;
            return subscribe(&mut state.table, place).map(|pollable| pollable.rep()).map_err(|error| error.to_string());
        }
        _ => return exchange::lost(state, kind).unwrap_or(Err(reason)),
    };
    place.map_err(|error| error.to_string())
}

/// Always ready, always failing.
struct Lost(String);

impl Lost {
    fn failure(&self) -> StreamError {
        StreamError::LastOperationFailed(format_err!("lost in a restore: {}", self.0))
    }
}

#[async_trait]
impl Pollable for Lost {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Lost {
    fn read(&mut self, _size: usize) -> StreamResult<Bytes> {
        Err(self.failure())
    }
}

#[async_trait]
impl OutputStream for Lost {
    fn write(&mut self, _bytes: Bytes) -> StreamResult<()> {
        Err(self.failure())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Err(self.failure())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Err(self.failure())
    }
}
