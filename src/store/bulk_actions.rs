//! Bulk actions: what they are about, how far they are, and which runs they touched.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{Listing, Page, Store, StoreError, leases::interval, rows, runs::Filter};
use crate::model::{
    bulk::{BulkAction, BulkKind},
    id::{BulkActionId, BulkActionKind, EnvironmentId, RunId},
};

/// Which runs an action is about.
#[derive(Debug, Clone)]
pub enum Selection {
    /// These, in any order.
    Runs(Vec<RunId>),
    /// Those that a list with this filter shows.
    Filter(Filter),
}

/// An action to be made.
#[derive(Debug, Clone)]
pub struct NewBulkAction {
    /// What is done to each run.
    pub kind: BulkKind,
    /// The user's name for it.
    pub name: Option<String>,
    /// Which runs.
    pub selection: Selection,
    /// How many they are.
    pub total: u64,
    /// Names the HTTP request: sent again, it makes no second action.
    pub request_key: Option<String>,
}

/// An action that is not over yet.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Which.
    pub id: BulkActionId,
    /// Where its runs are.
    pub environment: EnvironmentId,
    /// What is done to each run.
    pub kind: BulkKind,
    /// Which runs.
    pub selection: Selection,
    /// The last run that was dealt with; the rest is older.
    pub reached: Option<RunId>,
}

/// Makes an action; none if the same request has made one already.
///
/// # Errors
/// If the database does not answer.
pub async fn insert(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    new: &NewBulkAction,
) -> Result<Option<BulkActionId>, StoreError> {
    let (filter, runs) = match &new.selection {
        Selection::Runs(runs) => (None, Some(runs.iter().map(|run| run.uuid()).collect::<Vec<_>>())),
        Selection::Filter(filter) => (Some(rows::to_json(filter)), None),
    };
    let id = BulkActionId::new();
    let done = query!(
        "insert into bulk_actions (id, environment_id, kind, status, name, filter, run_ids, request_key, total)
         values ($1, $2, $3, 'PENDING', $4, $5::text::json, $6, $7, $8) on conflict do nothing",
        id.uuid(),
        environment.uuid(),
        new.kind.as_str(),
        new.name,
        filter,
        runs.as_deref(),
        new.request_key,
        new.total as i64
    )
    .execute(connection)
    .await?;
    Ok((done.rows_affected() == 1).then_some(id))
}

/// The action that a request has made.
///
/// # Errors
/// If the database does not answer.
pub async fn of_request(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    request_key: &str,
) -> Result<Option<BulkActionId>, StoreError> {
    let id = query_scalar!(
        "select id from bulk_actions where environment_id = $1 and request_key = $2",
        environment.uuid(),
        request_key
    );
    Ok(id.fetch_optional(connection).await?.map(BulkActionId::from_uuid))
}

/// How many actions of the environment are not over.
///
/// # Errors
/// If the database does not answer.
pub async fn count_pending(connection: &mut PgConnection, environment: EnvironmentId) -> Result<u64, StoreError> {
    let count = query_scalar!(
        r#"select count(*) as "count!" from bulk_actions where environment_id = $1 and status = 'PENDING'"#,
        environment.uuid()
    );
    Ok(count.fetch_one(connection).await?.unsigned_abs())
}

struct Row {
    id: Uuid,
    name: Option<String>,
    kind: String,
    status: String,
    total: i64,
    success: i64,
    failure: i64,
    created_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl Row {
    fn action(self) -> Result<BulkAction, StoreError> {
        Ok(BulkAction {
            id: BulkActionId::from_uuid(self.id),
            name: self.name,
            kind: rows::bulk_kind(&self.kind)?,
            status: rows::bulk_status(&self.status)?,
            total: self.total.unsigned_abs(),
            success: self.success.unsigned_abs(),
            failure: self.failure.unsigned_abs(),
            created_at: self.created_at,
            completed_at: self.completed_at,
        })
    }
}

/// One action.
///
/// # Errors
/// If the database does not answer.
pub async fn get(store: &Store, environment: EnvironmentId, id: BulkActionId) -> Result<Option<BulkAction>, StoreError> {
    let row = query_as!(
        Row,
        "select id, name, kind, status, total, success, failure, created_at, completed_at from bulk_actions
         where id = $1 and environment_id = $2",
        id.uuid(),
        environment.uuid()
    );
    row.fetch_optional(&mut *store.read().await?).await?.map(Row::action).transpose()
}

/// A page of an environment's actions, newest first.
///
/// # Errors
/// If the database does not answer.
pub async fn list(
    store: &Store,
    environment: EnvironmentId,
    page: Page<BulkActionKind>,
) -> Result<Listing<BulkAction, BulkActionKind>, StoreError> {
    let cut = page.cut();
    let rows = query_as!(
        Row,
        "select id, name, kind, status, total, success, failure, created_at, completed_at from bulk_actions
         where environment_id = $1 and ($2::uuid is null or id < $2) and ($3::uuid is null or id > $3)
         order by case when $3::uuid is null then id end desc, id limit $4",
        environment.uuid(),
        cut.below,
        cut.above,
        cut.limit
    )
    .fetch_all(&mut *store.browse().await?)
    .await?;
    let found = rows.into_iter().map(Row::action).collect::<Result<Vec<_>, _>>()?;
    Ok(page.listing(found, |action| action.id))
}

/// Some actions that are not over, the oldest first. One that another version wrote and this one does not understand is left out, so
/// that it does not keep others from being carried out.
///
/// # Errors
/// If the database does not answer.
pub async fn pending(store: &Store, most: i64) -> Result<Vec<Pending>, StoreError> {
    let rows = query!(
        "select id, environment_id, kind, filter, run_ids, reached_id from bulk_actions
         where status = 'PENDING' order by id limit $1",
        most
    )
    .fetch_all(&mut *store.read().await?)
    .await?;
    let pending = rows
        .into_iter()
        .map(|row| {
            let selection = match (row.filter, row.run_ids) {
                (Some(filter), _) => Selection::Filter(rows::json("bulk_actions", filter)?),
                (None, runs) => Selection::Runs(runs.into_iter().flatten().map(RunId::from_uuid).collect()),
            };
            Ok(Pending {
                id: BulkActionId::from_uuid(row.id),
                environment: EnvironmentId::from_uuid(row.environment_id),
                kind: rows::bulk_kind(&row.kind)?,
                selection,
                reached: row.reached_id.map(RunId::from_uuid),
            })
        })
        .filter_map(|read: Result<Pending, StoreError>| {
            read.inspect_err(|error| tracing::error!(error = error as &dyn std::error::Error, "a bulk action is left aside")).ok()
        });
    Ok(pending.collect())
}

/// Locks the action if it is as far as it was when it was looked at; false: it is not, or somebody else is at it.
///
/// # Errors
/// If the database does not answer.
pub async fn hold(connection: &mut PgConnection, action: &Pending) -> Result<bool, StoreError> {
    let held = query_scalar!(
        "select id from bulk_actions where id = $1 and status = 'PENDING' and reached_id is not distinct from $2
         for no key update skip locked",
        action.id.uuid(),
        action.reached.map(|run| run.uuid())
    );
    Ok(held.fetch_optional(connection).await?.is_some())
}

/// What became of some of an action's runs.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The runs that were cancelled or made.
    pub touched: Vec<RunId>,
    /// Runs for which it could not be done.
    pub failed: u64,
    /// The last of them.
    pub reached: Option<RunId>,
    /// There are no more.
    pub is_over: bool,
}

/// Writes down how far an action has come.
///
/// # Errors
/// If the database does not answer.
pub async fn note(connection: &mut PgConnection, id: BulkActionId, progress: &Progress) -> Result<(), StoreError> {
    let touched: Vec<Uuid> = progress.touched.iter().map(|run| run.uuid()).collect();
    query!(
        "insert into bulk_action_runs (bulk_action_id, run_id) select $1, unnest($2::uuid[]) on conflict do nothing",
        id.uuid(),
        &touched
    )
    .execute(&mut *connection)
    .await?;
    query!(
        "update bulk_actions
         set success = success + $2, failure = failure + $3, reached_id = coalesce($4, reached_id),
             status = case when $5 then 'COMPLETED' else status end, completed_at = case when $5 then clock_now() end
         where id = $1",
        id.uuid(),
        touched.len() as i64,
        progress.failed as i64,
        progress.reached.map(|run| run.uuid()),
        progress.is_over
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Stops an action that is not over. False: there is no such action; one that is over stays as it is.
///
/// # Errors
/// If the database does not answer.
pub async fn abort(connection: &mut PgConnection, environment: EnvironmentId, id: BulkActionId) -> Result<bool, StoreError> {
    let done = query!(
        "update bulk_actions
         set status = case when status = 'PENDING' then 'ABORTED' else status end, completed_at = coalesce(completed_at, clock_now())
         where id = $1 and environment_id = $2",
        id.uuid(),
        environment.uuid()
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes at most `max` actions that were over longer ago than `keep`. Their runs stay.
///
/// # Errors
/// If the database does not answer.
pub async fn forget(connection: &mut PgConnection, keep: Duration, max: i64) -> Result<u64, StoreError> {
    let done = query!(
        "delete from bulk_actions where id in (
            select id from bulk_actions where completed_at <= clock_now() - $1::interval
            order by completed_at limit $2 for update skip locked
         )",
        interval(keep),
        max
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
