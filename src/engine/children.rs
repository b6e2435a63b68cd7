//! Runs that a run starts, alone or as a batch, and their end with it. Source: facts A25, A27, A31, C7.
//!
//! A start is an effectful call of the parent: made again after its host was lost it gets the same runs. While it is made the
//! parent's row is locked, so a parent that ends has no child that this end does not see.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{
        Error, batch,
        journal::{self, Call},
        make::{self, Owner},
        room, trigger,
    },
    model::{
        attempt::Lease,
        batch::{BatchTriggered, Draft, Item, MAX_ITEMS, NewBatch, Stage},
        child::Intent,
        error::{ErrorCode, RunError},
        event::EventKind,
        id::EnvironmentId,
        run::RunStatus,
        trigger::{NewRun, RunIdempotency, Triggered},
    },
    store::{
        Store,
        batch_items::{self, Wanted},
        children,
        endings::{self, Ending},
        events,
        room::Rooms,
    },
};

/// Children that are cancelled in one transaction.
const CANCELLED_AT_ONCE: i64 = 100;

/// Triggers a run for a run. One that is to be waited for runs on its parent's version, unless it names another.
///
/// # Errors
/// [`Error::LostLease`], and those of [`trigger::trigger`].
pub async fn trigger(store: &Store, lease: &Lease, call: Call, new: NewRun, intent: Intent) -> Result<Triggered, Error> {
    let (lease, rooms) = (*lease, store.rooms().clone());
    let new = trigger::normal(NewRun { parent: Some(lease.run), awaited: intent == Intent::Wait, ..new })?;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let arguments = fingerprint(&new);
                journal::once(tx, &lease, call, "trigger", &arguments, async |tx, environment| {
                    trigger::trigger_child(tx, &rooms, environment, new).await
                })
                .await
            })
        })
        .await
}

/// Triggers 1 to 1000 runs for a run, as one batch and in one transaction; their order is that of the items. An item that cannot be
/// triggered becomes a run that has failed for that.
///
/// # Errors
/// [`Error::LostLease`]; [`Error::QueueFull`] if there is no room for all; [`Error::Invalid`] for none or too many items, or a key that breaks a rule.
pub async fn batch_trigger(
    store: &Store,
    lease: &Lease,
    call: Call,
    items: Vec<Item>,
    idempotency: Option<RunIdempotency>,
    intent: Intent,
) -> Result<BatchTriggered, Error> {
    if items.is_empty() || items.len() > MAX_ITEMS {
        return Err(Error::invalid("items", format!("a batch has 1 to {MAX_ITEMS} items")));
    }
    let idempotency = batch::normal_key(idempotency)?;
    let (lease, rooms) = (*lease, store.rooms().clone());
    store
        .tx(move |tx| {
            Box::pin(async move {
                let arguments = (&idempotency, intent, items.iter().map(item_fingerprint).collect::<Vec<_>>());
                let new = NewBatch {
                    run_count: items.len() as u32,
                    parent: Some(lease.run),
                    awaited: intent == Intent::Wait,
                    idempotency: idempotency.clone(),
                    request_key: None,
                };
                journal::once(tx, &lease, call, "batch-trigger", &arguments, async |tx, environment| {
                    batch_in(tx, &rooms, environment, &lease, &new, items).await
                })
                .await
            })
        })
        .await
}

async fn batch_in(
    tx: &mut PgConnection,
    rooms: &Rooms,
    environment: EnvironmentId,
    lease: &Lease,
    new: &NewBatch,
    items: Vec<Item>,
) -> Result<BatchTriggered, Error> {
    let (id, found) = batch::insert_or_find(tx, environment, new, Stage::Made).await?;
    if let Some(found) = found {
        return Ok(BatchTriggered { id, run_count: found.run_count, is_cached: true });
    }
    let owner = Owner { environment, batch: id, parent: Some(lease.run), awaited: new.awaited };
    room::for_items(tx, rooms, environment, wanted(&items)).await?;
    let made = make::make(tx, rooms, owner, items).await?;
    batch_items::note_made(tx, id, &made).await?;
    Ok(BatchTriggered { id, run_count: new.run_count, is_cached: false })
}

/// What these items want of queues.
fn wanted(items: &[Item]) -> Vec<Wanted> {
    let mut wanted: HashMap<Wanted, u64> = HashMap::new();
    for item in items {
        let Draft::Run(new) = &item.draft else { continue };
        let NewRun { task, queue, version, external_deployment, .. } = new.as_ref().clone();
        *wanted.entry(Wanted { task, queue, version, external_deployment, count: 0 }).or_default() += 1;
    }
    wanted.into_iter().map(|(alike, count)| Wanted { count, ..alike }).collect()
}

/// What makes a call the same call. Of a delay only that there is one: the guest computes it from the time, which is later when it
/// asks again.
fn fingerprint(new: &NewRun) -> Value {
    let mut options = serde_json::to_value(new).unwrap_or_default();
    options["delay_until"] = new.delay_until.is_some().into();
    json!([options, blake3::hash(&new.payload.data).to_hex().as_str(), new.payload.content_type])
}

fn item_fingerprint(item: &Item) -> Value {
    match &item.draft {
        Draft::Run(new) => fingerprint(new),
        Draft::Refused(refusal) => json!([item.task, refusal.message]),
    }
}

/// Cancels some children of one run that was cancelled, at once or, if they execute, by asking for their end. False: nobody's are
/// left. A child that ends so takes its own along: it is noted like its parent was.
///
/// # Errors
/// If the database does not answer.
pub async fn cancel_some(store: &Store) -> Result<bool, Error> {
    store
        .tx(|tx| {
            Box::pin(async move {
                let Some(parent) = children::pick_cancelled(tx).await? else { return Ok(false) };
                let live = children::live(tx, parent, CANCELLED_AT_ONCE).await?;
                let of = |leased: bool| live.iter().filter(|child| child.is_leased == leased).map(|child| child.id).collect();
                let (leased, free): (Vec<Uuid>, Vec<Uuid>) = (of(true), of(false));
                let asked = children::request_cancel(tx, &leased).await?;
                events::record(tx, EventKind::CancelRequested, &asked).await?;
                let error = RunError::internal(ErrorCode::TaskRunCancelled, "the run that triggered it was cancelled");
                endings::end_attempts(tx, &free, &error).await?;
                let ending = Ending { status: RunStatus::Canceled, output: None, error: Some(&error), cpu_ms: 0 };
                endings::end(tx, &free, &ending).await?;
                if (live.len() as i64) < CANCELLED_AT_ONCE {
                    children::forget_cancelled(tx, parent).await?;
                }
                Ok(true)
            })
        })
        .await
}
