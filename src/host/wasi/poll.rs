//! Sleeping through WASI: `poll` and `block`, split in two for the rewriter.
//!
//! The first half may suspend the run, and does so for timers only: whatever else can be waited for lives in this process.
//! The second half asks again what is ready, on time or later, so nothing of the first is needed but the handles.

use std::mem;

use chrono::{DateTime, TimeDelta, Utc};
use wasmtime::{
    bail,
    component::{LinkerInstance, Resource},
};
use wasmtime_wasi::p2::bindings::io::poll;

use super::{generated::Kind, ids::Reopen, reopen};
use crate::{
    host::{HostState, limits::MAX_HANDLES},
    model::waitpoint::WaitRequest,
    wall_clock,
};

/// Days that a sleep may be suspended for; what is left is slept in memory.
const LONGEST_SLEEP_DAYS: i64 = 100 * 365;

/// Registers both halves of both functions in the instance of `wasi:io/poll`.
pub(super) fn link(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap_async("poll-start", |mut store, (pollables,): (Vec<u32>,)| {
        Box::new(async move { Ok((start(store.data_mut(), pollables).await? as u32,)) })
    })?;
    instance.func_wrap_async("poll-finish", |mut store, ()| Box::new(async move { Ok((finish(store.data_mut()).await?,)) }))?;
    instance.func_wrap_async("m-pollable-x-block-start", |mut store, (pollable,): (u32,)| {
        Box::new(async move { Ok((start(store.data_mut(), vec![pollable]).await? as u32,)) })
    })?;
    instance.func_wrap_async("m-pollable-x-block-finish", |mut store, ()| {
        Box::new(async move { finish(store.data_mut()).await.map(|_| ()) })
    })
}

/// Whether the run is to be suspended until the nearest of the timers.
async fn start(state: &mut HostState, pollables: Vec<u32>) -> wasmtime::Result<bool> {
    if pollables.is_empty() || pollables.len() > MAX_HANDLES {
        bail!("poll takes 1 to {MAX_HANDLES} pollables, not {}", pollables.len());
    }
    let mut deadlines = Vec::with_capacity(pollables.len());
    for id in &pollables {
        state.ids.borrow(*id, Kind::Pollable)?;
        deadlines.push(match state.ids.get(*id).map(|entry| &entry.reopen) {
            Some(Reopen::Timer(deadline)) => Some(*deadline),
            _ => None,
        });
    }
    state.polling = pollables;
    let Some(nearest) = deadlines.into_iter().collect::<Option<Vec<u64>>>().and_then(|all| all.into_iter().min()) else {
        return Ok(false);
    };
    let at = wake_up_time(state, nearest);
    match state.acting().map(|run| run.grace) {
        Ok(grace) if (at - wall_clock::now()).to_std().is_ok_and(|away| away > grace) => {
            let warm_only = reopen::warm_reason(state);
            Ok(state.begin_wait(WaitRequest::Sleep { at }, warm_only.as_deref()).await)
        }
        _ => Ok(false),
    }
}

fn wake_up_time(state: &HostState, deadline: u64) -> DateTime<Utc> {
    state.clock.wall_time_of(deadline).min(wall_clock::now() + TimeDelta::days(LONGEST_SLEEP_DAYS))
}

/// Waits until something is ready, if nothing is, and tells which.
async fn finish(state: &mut HostState) -> wasmtime::Result<Vec<u32>> {
    state.end_sleep();
    let polled = mem::take(&mut state.polling).into_iter();
    let places = polled.map(|id| Ok(Resource::new_borrow(state.ids.borrow(id, Kind::Pollable)?)));
    let places = places.collect::<wasmtime::Result<Vec<_>>>()?;
    poll::Host::poll(&mut state.table, places).await
}
