//! Changes a run's metadata object, and its parent's and root's, as one step: the rows are locked before they are read, so
//! increments of children that run at the same time are not lost. Source: facts G1-G7.

use serde_json::{Map, Value};
use sqlx::PgConnection;

use crate::{
    engine::{
        Error,
        journal::{self, Call},
    },
    model::{
        attempt::Lease,
        event::EventKind,
        id::{EnvironmentId, RunId},
        metadata::Operation,
        payload::MAX_METADATA_BYTES,
    },
    store::{
        Store, events,
        notes::{self, Noted},
    },
};

/// Most operations of one update.
const MAX_OPERATIONS: usize = 10_000;
/// What whoever changes the metadata of a run that is final is told.
const FINAL: &str = "Cannot update metadata for a completed run";

/// Changes to a run's metadata and that of its parent and root, made in this order.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Put this object in place of the whole, first.
    pub replace: Option<Map<String, Value>>,
    /// Then these.
    pub own: Vec<Operation>,
    /// To the parent; to itself if it has none.
    pub parent: Vec<Operation>,
    /// To the root; to itself if it is the root.
    pub root: Vec<Operation>,
}

/// The metadata of a run.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(store: &Store, environment: EnvironmentId, run: RunId) -> Result<Map<String, Value>, Error> {
    let mut connection = store.read().await?;
    notes::metadata(&mut connection, environment, run).await?.ok_or(Error::not_found("run"))
}

/// Applies the update as one step, all or nothing, and returns the run's own object afterwards.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if a run it changes is final; [`Error::TooLarge`] if an object would be larger
/// than 256 KiB; [`Error::Invalid`] for a key that must not be set.
pub async fn update(store: &Store, environment: EnvironmentId, run: RunId, update: Update) -> Result<Map<String, Value>, Error> {
    check_count(&update)?;
    store
        .tx(move |tx| {
            Box::pin(async move {
                apply(tx, environment, run, &update).await?;
                notes::metadata(tx, environment, run).await?.ok_or(Error::not_found("run"))
            })
        })
        .await
}

/// Applies the update of a run that this lease holds. The same call made again after its host was lost changes nothing: an
/// increment is made once.
///
/// # Errors
/// [`Error::LostLease`], and those of [`update`].
pub async fn update_in_run(store: &Store, lease: &Lease, call: Call, update: Update) -> Result<(), Error> {
    check_count(&update)?;
    let lease = *lease;
    store
        .tx(move |tx| {
            Box::pin(async move {
                let arguments = (&update.replace, &update.own, &update.parent, &update.root);
                journal::once(tx, &lease, call, "update-metadata", &arguments, async |tx, environment| {
                    apply(tx, environment, lease.run, &update).await
                })
                .await
            })
        })
        .await
}

fn check_count(update: &Update) -> Result<(), Error> {
    if update.own.len() + update.parent.len() + update.root.len() > MAX_OPERATIONS {
        return Err(Error::TooLarge { field: "operations", limit: MAX_OPERATIONS, unit: "operations" });
    }
    Ok(())
}

async fn apply(tx: &mut PgConnection, environment: EnvironmentId, run: RunId, update: &Update) -> Result<(), Error> {
    let (parent, root) = notes::family(tx, environment, run).await?.ok_or(Error::not_found("run"))?;
    let steps = [(run, &update.own), (parent.unwrap_or(run), &update.parent), (root, &update.root)];
    let mut touched: Vec<RunId> = steps.iter().filter(|(_, operations)| !operations.is_empty()).map(|(id, _)| *id).collect();
    touched.extend(update.replace.is_some().then_some(run));
    touched.sort();
    touched.dedup();
    let mut noted = notes::lock_metadata(tx, environment, &touched).await?;
    if let Some(object) = &update.replace {
        target(&mut noted, run)?.metadata = object.clone();
    }
    for (id, operations) in steps {
        for operation in operations {
            operation.apply(&mut target(&mut noted, id)?.metadata)?;
        }
    }
    let mut changed = Vec::new();
    for noted in &noted {
        check(noted)?;
        changed.push(notes::set_metadata(tx, noted).await?);
    }
    events::record(tx, EventKind::Changed, &changed).await?;
    Ok(())
}

fn target(noted: &mut [Noted], run: RunId) -> Result<&mut Noted, Error> {
    // A parent or root that has been deleted was final before.
    noted.iter_mut().find(|noted| noted.id == run).ok_or_else(|| Error::Conflict(FINAL.into()))
}

fn check(noted: &Noted) -> Result<(), Error> {
    if noted.status.is_final() {
        return Err(Error::Conflict(FINAL.into()));
    }
    let length = serde_json::to_string(&noted.metadata).map_or(0, |text| text.len());
    if length > MAX_METADATA_BYTES {
        return Err(Error::TooLarge { field: "metadata", limit: MAX_METADATA_BYTES, unit: "bytes" });
    }
    Ok(())
}
