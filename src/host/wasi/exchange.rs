//! HTTP's handles over a snapshot: what is left of an exchange that is over is saved by content; one in progress is not saved.
//!
//! A guest often keeps handles longer than it needs them (a garbage collector drops them some day), so whether an exchange
//! keeps a run in memory is decided by what the thing behind the handle is doing, not by the handle.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use wasmtime::{
    component::{Resource, ResourceTable},
    format_err,
};
use wasmtime_wasi::p2::{DynInputStream, InputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::{
    Error, FieldMap,
    p2::{
        body::{HostFutureTrailers, HostIncomingBody},
        types::{HostFutureIncomingResponse, HostIncomingResponse},
    },
};

use super::{
    generated::Kind,
    ids::{Entry, Fields, Reopen},
};
use crate::host::{HostState, http::MAX_FIELDS_BYTES};

/// What keeps a part of exchange `number` from being saved, for people.
pub(super) fn obstacle(state: &HostState, kind: Kind, place: u32, number: u64) -> Option<&'static str> {
    let is_over = state.http.is_over(number);
    match kind {
        Kind::FutureIncomingResponse => match state.table.get(&Resource::<HostFutureIncomingResponse>::new_borrow(place)) {
            Ok(HostFutureIncomingResponse::Consumed) => None,
            _ => Some("is the answer to an HTTP request, which the task has not taken"),
        },
        Kind::IncomingResponse => match state.table.get(&Resource::<HostIncomingResponse>::new_borrow(place)) {
            Ok(response) if response.body.is_none() || is_over => None,
            _ => Some("is an HTTP response whose body was not read"),
        },
        Kind::FutureTrailers => match state.table.get(&Resource::<HostFutureTrailers>::new_borrow(place)) {
            Ok(HostFutureTrailers::Consumed | HostFutureTrailers::Done(Ok(None))) => None,
            _ if is_over => None,
            _ => Some("waits for the end of an HTTP response"),
        },
        _ if is_over => None,
        _ => Some("is part of an HTTP response that was not read to its end"),
    }
}

/// How a thing of HTTP that is saved by content is made again; none: it is not such a thing.
pub(super) fn content(table: &mut ResourceTable, entry: &Entry, place: u32) -> Option<Reopen> {
    match (&entry.reopen, entry.kind) {
        (Reopen::Fields(_, is_mutable), _) => {
            let fields = table.get(&Resource::<FieldMap>::new_borrow(place)).ok()?;
            Some(Reopen::Fields(list(fields), *is_mutable))
        }
        (Reopen::Exchange(_) | Reopen::Response(..), Kind::IncomingResponse) => {
            let response = table.get(&Resource::<HostIncomingResponse>::new_borrow(place)).ok()?;
            Some(Reopen::Response(response.status, list(&response.headers), response.body.is_some()))
        }
        (Reopen::Exchange(_), Kind::FutureIncomingResponse) => Some(Reopen::Taken),
        (Reopen::Exchange(_) | Reopen::Ended, Kind::FutureTrailers) => {
            let trailers = table.get(&Resource::<HostFutureTrailers>::new_borrow(place)).ok()?;
            Some(if matches!(trailers, HostFutureTrailers::Consumed) { Reopen::Taken } else { Reopen::Ended })
        }
        (Reopen::Exchange(_) | Reopen::Ended | Reopen::Empty, Kind::IncomingBody) => {
            let body = table.get_mut(&Resource::<HostIncomingBody>::new_borrow(place)).ok()?;
            if body.take_stream().is_none() {
                return Some(Reopen::Ended);
            }
            // Nothing is lost by the question: a body that is over and was not read has nothing in it.
            *body = empty();
            Some(Reopen::Empty)
        }
        (Reopen::Exchange(_), _) => Some(Reopen::Ended),
        _ => None,
    }
}

fn list(fields: &FieldMap) -> Fields {
    fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Makes one thing of HTTP again: its place in the resource table.
pub(super) fn open(state: &mut HostState, kind: Kind, reopen: &Reopen) -> wasmtime::Result<u32> {
    let table = &mut state.table;
    Ok(match (reopen, kind) {
        (Reopen::Fields(fields, is_mutable), Kind::Fields) => table.push(map(fields, *is_mutable)?)?.rep(),
        (Reopen::Response(status, headers, has_body), Kind::IncomingResponse) => {
            let body = has_body.then(empty);
            table.push(HostIncomingResponse { status: *status, headers: map(headers, false)?, body })?.rep()
        }
        (Reopen::Ended, Kind::IncomingBody) => {
            let mut body = empty();
            // The guest took its stream, and has or had it.
            drop(body.take_stream());
            table.push(body)?.rep()
        }
        (Reopen::Empty, Kind::IncomingBody) => table.push(empty())?.rep(),
        (Reopen::Ended, Kind::InputStream) => table.push(Box::new(AtItsEnd) as DynInputStream)?.rep(),
        (Reopen::Ended, Kind::FutureTrailers) => table.push(HostFutureTrailers::Done(Ok(None)))?.rep(),
        (Reopen::Taken, Kind::FutureTrailers) => table.push(HostFutureTrailers::Consumed)?.rep(),
        (Reopen::Taken, Kind::FutureIncomingResponse) => table.push(HostFutureIncomingResponse::Consumed)?.rep(),
        (_, kind) => return Err(format_err!("a {} cannot be opened again as part of an HTTP exchange", kind.name())),
    })
}

/// What stands in for a part of an exchange that could not be made again; none: nothing does for this kind.
pub(super) fn lost(state: &mut HostState, kind: Kind) -> Option<Result<u32, String>> {
    let gone = || Error::ConnectionTerminated;
    let place = match kind {
        Kind::FutureIncomingResponse => {
            state.table.push(HostFutureIncomingResponse::Ready(Err(gone()))).map(|future| future.rep())
        }
        Kind::FutureTrailers => state.table.push(HostFutureTrailers::Done(Err(gone()))).map(|trailers| trailers.rep()),
        Kind::IncomingBody => {
            let body = http_body_util::StreamBody::new(futures_util::stream::iter([Err(gone())]));
            state.table.push(HostIncomingBody::new(body.boxed_unsync())).map(|body| body.rep())
        }
        _ => return None,
    };
    Some(place.map_err(|error| error.to_string()))
}

fn map(fields: &Fields, is_mutable: bool) -> wasmtime::Result<FieldMap> {
    // Fields of a response were held to another limit when they came.
    let mut map = FieldMap::new_mutable(usize::MAX);
    for (name, value) in fields {
        map.append_raw(name.parse()?, value.as_slice().try_into()?)?;
    }
    if is_mutable {
        map.set_mutable(MAX_FIELDS_BYTES);
    } else {
        map.set_immutable();
    }
    Ok(map)
}

fn empty() -> HostIncomingBody {
    HostIncomingBody::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync())
}

/// A stream of which everything was read.
struct AtItsEnd;

#[async_trait]
impl Pollable for AtItsEnd {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for AtItsEnd {
    fn read(&mut self, _size: usize) -> StreamResult<Bytes> {
        Err(StreamError::Closed)
    }
}
