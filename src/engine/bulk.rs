//! Bulk actions: many runs that are cancelled or replayed, some in each transaction, from the newest to the oldest. Source: facts 7.3.
//!
//! What a transaction does to runs and how far the action has come are written together, so a process that dies repeats nothing and
//! leaves nothing out: the sweep of any other goes on. Runs that are made after the action are none of its business, its own
//! replays among them.

use crate::{
    engine::{
        Error, cancel, children,
        replay::{self, Changes},
    },
    model::{
        bulk::BulkKind,
        id::{BulkActionId, EnvironmentId, RunId},
        payload::Packet,
        trigger::NewRun,
    },
    store::{
        Store,
        bulk_actions::{self, NewBulkAction, Pending, Progress, Selection},
        runs,
    },
};

/// Most actions of an environment that are not over.
pub const MAX_PENDING: u64 = 100;
/// Runs of one transaction.
const AT_ONCE: usize = 25;

/// Makes an action, which the sweep then carries out; `total` is filled in. The same request gets the same action.
///
/// # Errors
/// [`Error::Conflict`] if too many are not over.
pub async fn create(store: &Store, environment: EnvironmentId, mut new: NewBulkAction) -> Result<BulkActionId, Error> {
    new.total = match &mut new.selection {
        Selection::Runs(runs) => {
            runs.sort_unstable_by_key(|run| std::cmp::Reverse(run.uuid()));
            runs.dedup();
            runs.len() as u64
        }
        Selection::Filter(filter) => runs::count(store, environment, filter).await?,
    };
    store
        .tx(move |tx| {
            Box::pin(async move {
                if let Some(request) = &new.request_key
                    && let Some(id) = bulk_actions::of_request(tx, environment, request).await?
                {
                    return Ok(id);
                }
                if bulk_actions::count_pending(tx, environment).await? >= MAX_PENDING {
                    let message = format!("{MAX_PENDING} bulk actions are not over yet; wait for one, or abort one");
                    return Err(Error::Conflict(message));
                }
                match (bulk_actions::insert(tx, environment, &new).await?, &new.request_key) {
                    (Some(id), _) => Ok(id),
                    // The same request, at the same time.
                    (None, Some(request)) => bulk_actions::of_request(tx, environment, request)
                        .await?
                        .ok_or(Error::Conflict("the request is being dealt with".into())),
                    (None, None) => Err(Error::Conflict("the request is being dealt with".into())),
                }
            })
        })
        .await
}

/// Stops an action; what it has done stays done. One that is over stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn abort(store: &Store, environment: EnvironmentId, id: BulkActionId) -> Result<(), Error> {
    let found = store.tx(move |tx| Box::pin(async move { bulk_actions::abort(tx, environment, id).await })).await?;
    if found { Ok(()) } else { Err(Error::not_found("bulk action")) }
}

/// Deals with the next runs of an action. False: it is over, or somebody else is at it.
///
/// # Errors
/// If the database does not answer.
pub async fn advance(store: &Store, action: &Pending) -> Result<bool, Error> {
    let next = next_runs(store, action).await?;
    let (action, rooms) = (action.clone(), store.rooms().clone());
    let cancels = action.kind == BulkKind::Cancel;
    let goes_on = store
        .tx(move |tx| {
            Box::pin(async move {
                if !bulk_actions::hold(tx, &action).await? {
                    return Ok::<_, Error>(false);
                }
                let mut progress =
                    Progress { reached: next.last().copied(), is_over: next.len() < AT_ONCE, ..Progress::default() };
                for run in next {
                    let done = match action.kind {
                        BulkKind::Cancel => cancel::cancel_in(tx, action.environment, run).await.map(|did| did.then_some(run)),
                        BulkKind::Replay => {
                            replay::replay_in(tx, &rooms, action.environment, run, as_it_was()).await.map(|made| Some(made.id))
                        }
                    };
                    match done {
                        Ok(Some(touched)) => progress.touched.push(touched),
                        Ok(None) => progress.failed += 1,
                        Err(Error::Unavailable(source)) => return Err(Error::Unavailable(source)),
                        Err(Error::Internal(source)) => return Err(Error::Internal(source)),
                        // Refused by a rule: nothing was written for this one.
                        Err(_) => progress.failed += 1,
                    }
                }
                let goes_on = !progress.is_over;
                bulk_actions::note(tx, action.id, &progress).await?;
                Ok(goes_on)
            })
        })
        .await?;
    if cancels {
        children::cancel_some(store).await?;
    }
    Ok(goes_on)
}

/// The runs after the last one that was dealt with.
async fn next_runs(store: &Store, action: &Pending) -> Result<Vec<RunId>, Error> {
    Ok(match &action.selection {
        Selection::Runs(runs) => {
            let is_left = |run: &&RunId| action.reached.is_none_or(|reached| run.uuid() < reached.uuid());
            runs.iter().filter(is_left).take(AT_ONCE).copied().collect()
        }
        Selection::Filter(filter) => runs::older_than(store, action.environment, filter, action.reached, AT_ONCE as i64).await?,
    })
}

/// A replay with nothing changed.
fn as_it_was() -> Changes {
    Changes { payload: None, metadata: None, tags: None, others: NewRun::of("", Packet::empty()) }
}
