//! Batches that are filled from outside: made first, then given their items, any number at a time and in any order, and turned into
//! runs once the last one is there. Source: facts B1-B6, 7.2.
//!
//! ```text
//!   create ──► FILLING ──last item──► MAKING ──make_some──► MADE
//!                 │ nobody adds to it for an hour
//!                 └──► ABORTED
//! ```
//!
//! Nothing is started before all items are there, so a client whose stream broke may send everything again, or give up, without
//! having started half of it. Until then they are kept in rows of their own. Turning them into runs takes several transactions, each
//! for some items; if the process that is at it dies, [`make_some`] of the sweep goes on.

use std::time::Duration;

use sqlx::PgConnection;

use crate::{
    engine::{
        Error,
        make::{self, Owner},
        room,
        trigger::{self, Above},
    },
    model::{
        batch::{Draft, Item, MAX_ITEMS, NewBatch, Stage},
        id::{BatchId, EnvironmentId},
        payload::Packet,
        trigger::{MAX_KEY_CHARS, NewRun, RunIdempotency},
    },
    store::{
        Store,
        batch_items::{self, Kept},
        batches::{self, Found, Held},
        room::Rooms,
    },
};

/// Times that a key may change hands while we look.
const MAX_ROUNDS: u32 = 3;
/// Most items that become runs in one transaction, and bytes of payloads after which there are no more.
const MADE_AT_ONCE: (i64, i64) = (200, 4 << 20);
/// How long a batch that is not filled is kept after its last item.
pub const FILL_WITHIN: Duration = Duration::from_secs(60 * 60);

/// A batch that was made or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// The batch.
    pub id: BatchId,
    /// How many items it has or will have.
    pub run_count: u32,
    /// An earlier request with the same key made it, and gave it its items. One that is still to be filled does not count: whoever
    /// asks for it shall fill it. Source: facts B3.
    pub is_cached: bool,
}

/// Makes a batch to be filled, or finds the one with the same idempotency key or of the same request.
///
/// # Errors
/// [`Error::Invalid`] for a count, key or parent that breaks a rule, or a key under which a batch of another size is being filled.
pub async fn create(store: &Store, environment: EnvironmentId, new: NewBatch) -> Result<Created, Error> {
    if new.run_count == 0 || new.run_count as usize > MAX_ITEMS {
        return Err(Error::invalid("runCount", format!("a batch has 1 to {MAX_ITEMS} items")));
    }
    let new = NewBatch { idempotency: normal_key(new.idempotency)?, ..new };
    store.tx(move |tx| Box::pin(async move { create_in(tx, environment, &new).await })).await
}

async fn create_in(tx: &mut PgConnection, environment: EnvironmentId, new: &NewBatch) -> Result<Created, Error> {
    Above::of(tx, environment, new.parent).await?;
    let (id, found) = insert_or_find(tx, environment, new, Stage::Filling).await?;
    let Some(found) = found else { return Ok(Created { id, run_count: new.run_count, is_cached: false }) };
    if found.stage == Stage::Filling && found.run_count != new.run_count {
        let message = format!("a batch with this key, of {} items, is being filled", found.run_count);
        return Err(Error::invalid("idempotencyKey", message));
    }
    Ok(Created { id, run_count: found.run_count, is_cached: found.stage.is_sealed() })
}

/// Writes a batch, or finds the one that has its key or request.
pub(super) async fn insert_or_find(
    tx: &mut PgConnection,
    environment: EnvironmentId,
    new: &NewBatch,
    stage: Stage,
) -> Result<(BatchId, Option<Found>), Error> {
    for _ in 0..MAX_ROUNDS {
        if let Some(id) = batches::insert(tx, environment, new, stage).await? {
            return Ok((id, None));
        }
        if let Some(found) = batches::find(tx, environment, new).await? {
            return Ok((found.id, Some(found)));
        }
    }
    Err(Error::Conflict("the idempotency key is being used by other requests".into()))
}

/// The key within its limits, as it is compared.
pub(super) fn normal_key(idempotency: Option<RunIdempotency>) -> Result<Option<RunIdempotency>, Error> {
    let Some(RunIdempotency { key, shown, .. }) = &idempotency else { return Ok(None) };
    if key.is_empty() {
        return Err(Error::invalid("idempotencyKey", "the idempotency key is empty"));
    }
    trigger::text_only("idempotencyKey", key, MAX_KEY_CHARS)?;
    trigger::text_only("idempotencyKeyOptions", shown.as_deref().unwrap_or_default(), MAX_KEY_CHARS)?;
    Ok(idempotency.map(trigger::with_indexed_key))
}

/// What became of items that were given to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filled {
    /// Of these, how many were new.
    pub accepted: u32,
    /// How many it had already.
    pub deduplicated: u32,
    /// All are there: it is sealed, and what else comes is left aside.
    pub sealed: bool,
    /// How many it has now.
    pub count: u32,
    /// How many it will have.
    pub run_count: u32,
}

impl Filled {
    /// What became of these and of more.
    pub fn and(self, more: Filled) -> Filled {
        Filled { accepted: self.accepted + more.accepted, deduplicated: self.deduplicated + more.deduplicated, ..more }
    }
}

/// Gives items to a batch, one for each place: what is there already stays. The last one seals it. None asks how it stands.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if it was given up; [`Error::Invalid`] for a place that it does not have;
/// [`Error::QueueFull`] with the last items, if there is no room for all: those of before are kept, and the last may be sent again.
pub async fn fill(store: &Store, environment: EnvironmentId, batch: BatchId, items: Vec<Item>) -> Result<Filled, Error> {
    let items = items.into_iter().map(kept).collect::<Result<Vec<_>, _>>()?;
    let rooms = store.rooms().clone();
    store
        .tx(move |tx| {
            Box::pin(async move {
                let held = batches::hold(tx, environment, batch).await?.ok_or(Error::not_found("batch"))?;
                fill_in(tx, &rooms, environment, &held, &items).await
            })
        })
        .await
}

async fn fill_in(
    tx: &mut PgConnection,
    rooms: &Rooms,
    environment: EnvironmentId,
    held: &Held,
    items: &[Kept],
) -> Result<Filled, Error> {
    let (asked, run_count) = (items.len() as u32, held.run_count);
    if held.stage.is_sealed() {
        return Ok(Filled { accepted: 0, deduplicated: asked, sealed: true, count: run_count, run_count });
    }
    if held.stage == Stage::Aborted {
        return Err(Error::Conflict("the batch was aborted, because its items did not come in time; make another one".into()));
    }
    if let Some(item) = items.iter().find(|item| item.index >= run_count) {
        let message = format!("{} is no place of this batch, which has {run_count}, the first of them 0", item.index);
        return Err(Error::invalid("index", message));
    }
    let accepted = if items.is_empty() { 0 } else { batch_items::add(tx, held.id, items).await? };
    let count = batch_items::count(tx, held.id).await?;
    let sealed = count == run_count;
    if sealed {
        // From here on its items are as good as triggered.
        let wanted = if rooms.is_endless() { Vec::new() } else { batch_items::wanted(tx, held.id).await? };
        room::for_items(tx, rooms, environment, wanted).await?;
        batches::set_stage(tx, held.id, Stage::Making).await?;
    }
    Ok(Filled { accepted, deduplicated: asked - accepted, sealed, count, run_count })
}

/// An item as it is kept until it becomes a run.
fn kept(item: Item) -> Result<Kept, Error> {
    let (draft, payload, refusal) = match item.draft {
        Draft::Run(mut new) => {
            let payload = std::mem::replace(&mut new.payload, Packet::empty());
            let draft = serde_json::to_value(&*new).map_err(|error| Error::Internal(error.into()))?;
            (Some(draft), payload, None)
        }
        Draft::Refused(refusal) => (None, Packet::empty(), Some(refusal)),
    };
    let Packet { data, content_type } = payload;
    Ok(Kept { index: item.index, task: item.task, draft, payload: data, payload_type: content_type, refusal })
}

fn item(kept: Kept) -> Result<Item, Error> {
    let Kept { index, task, draft, payload, payload_type, refusal } = kept;
    let draft = match (refusal, draft) {
        (Some(refusal), _) => Draft::Refused(refusal),
        (None, Some(draft)) => {
            let mut new: NewRun = serde_json::from_value(draft).map_err(|error| Error::Internal(error.into()))?;
            new.payload = Packet { data: payload, content_type: payload_type };
            Draft::Run(Box::new(new))
        }
        (None, None) => return Err(Error::Internal(anyhow::anyhow!("an item of a batch has neither a draft nor a refusal"))),
    };
    Ok(Item { index, task, draft })
}

/// Makes a batch with all its items, sealed.
///
/// # Errors
/// Those of [`create`] and [`fill`].
pub async fn create_filled(store: &Store, environment: EnvironmentId, new: NewBatch, items: Vec<Item>) -> Result<Created, Error> {
    let items = items.into_iter().map(kept).collect::<Result<Vec<_>, _>>()?;
    let rooms = store.rooms().clone();
    store
        .tx(move |tx| {
            Box::pin(async move {
                let created = create_in(tx, environment, &new).await?;
                let held = batches::hold(tx, environment, created.id).await?.ok_or(Error::not_found("batch"))?;
                fill_in(tx, &rooms, environment, &held, &items).await?;
                Ok(created)
            })
        })
        .await
}

/// Turns some items of a sealed batch into runs. False: nothing of it is left to do.
///
/// # Errors
/// [`Error::NotFound`], and those of a trigger that concern all items.
pub async fn make_some(store: &Store, environment: EnvironmentId, batch: BatchId) -> Result<bool, Error> {
    let rooms = store.rooms().clone();
    store
        .tx(move |tx| {
            Box::pin(async move {
                let held = batches::hold(tx, environment, batch).await?.ok_or(Error::not_found("batch"))?;
                if held.stage != Stage::Making {
                    return Ok(false);
                }
                let (items, bytes) = MADE_AT_ONCE;
                let kept = batch_items::to_make(tx, batch, items, bytes).await?;
                let items = kept.into_iter().map(item).collect::<Result<Vec<_>, _>>()?;
                let owner = Owner { environment, batch, parent: held.parent, awaited: held.awaited };
                let made = make::make(tx, &rooms, owner, items).await?;
                batch_items::note_made(tx, batch, &made).await?;
                let goes_on = batch_items::are_left(tx, batch).await?;
                batches::set_stage(tx, batch, if goes_on { Stage::Making } else { Stage::Made }).await?;
                Ok(goes_on)
            })
        })
        .await
}

/// Turns all items of a sealed batch into runs.
///
/// # Errors
/// Those of [`make_some`].
pub async fn make_all(store: &Store, environment: EnvironmentId, batch: BatchId) -> Result<(), Error> {
    while make_some(store, environment, batch).await? {}
    Ok(())
}

/// Gives up at most `max` batches that nobody has added to for an hour, and says how many.
///
/// # Errors
/// If the database does not answer.
pub async fn abort_idle(store: &Store, max: i64) -> Result<u64, Error> {
    Ok(store.tx(move |tx| Box::pin(batches::abort_idle(tx, FILL_WITHIN, max))).await?)
}
