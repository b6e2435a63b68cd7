//! How far the export of traces is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Store, StoreError, leases::interval};
use crate::model::id::RunId;

/// The one export there is.
const NAME: &str = "otlp";

/// The end of a run: those that ended at the same time are told apart by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When.
    pub at: DateTime<Utc>,
    /// Which run.
    pub id: Uuid,
}

/// What was done with the runs up to a place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Runs.
    pub runs: u64,
    /// Spans.
    pub spans: u64,
    /// Spans that the collector did not take.
    pub refused: u64,
}

/// Takes the export, or keeps it, and says how far it is: nobody else has it for the next `hold_for`, or nearly. None: somebody else has
/// it. The first who ever does begins with what ends from now on.
///
/// # Errors
/// If the database does not answer.
pub async fn take(connection: &mut PgConnection, holder: Uuid, hold_for: Duration) -> Result<Option<Place>, StoreError> {
    query!(
        "insert into trace_exports (name, reached_at, reached_id, held_until) values ($1, clock_now(), $2, clock_now())
         on conflict (name) do nothing",
        NAME,
        Uuid::max()
    )
    .execute(&mut *connection)
    .await?;
    let row = query!(
        "update trace_exports set holder = $2, held_until = clock_now() + $3::interval
         where name = $1 and (holder = $2 or held_until <= clock_now())
         returning reached_at, reached_id",
        NAME,
        holder,
        interval(hold_for)
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Place { at: row.reached_at, id: row.reached_id }))
}

/// Gives the export up: whoever asks next has it.
///
/// # Errors
/// If the database does not answer.
pub async fn let_go(connection: &mut PgConnection, holder: Uuid) -> Result<(), StoreError> {
    query!("update trace_exports set held_until = clock_now() where name = $1 and holder = $2", NAME, holder)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that all runs up to this place have been dealt with. False: somebody else has taken the export.
///
/// # Errors
/// If the database does not answer.
pub async fn reach(connection: &mut PgConnection, holder: Uuid, place: Place, sent: Sent) -> Result<bool, StoreError> {
    let done = query!(
        "update trace_exports
         set reached_at = $3, reached_id = $4, runs = runs + $5, spans = spans + $6, refused = refused + $7
         where name = $1 and holder = $2",
        NAME,
        holder,
        place.at,
        place.id,
        sent.runs as i64,
        sent.spans as i64,
        sent.refused as i64
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The runs whose end comes next after a place, at most `max`, in order. Those whose logs have been swept away are passed by.
///
/// A run's end is the time at which its transaction began, and it is seen once that is committed. So none is shown that may have ended
/// after one which is not seen yet: only what ended before the oldest transaction that goes on began.
///
/// # Errors
/// If the database does not answer.
pub async fn after(store: &Store, place: Place, max: i64) -> Result<Vec<(RunId, Place)>, StoreError> {
    let connection = &mut *store.read().await?;
    // Before the look at the runs. One that lasts for long and has written nothing is no transaction that ends a run.
    let settled: DateTime<Utc> = query_scalar!(
        r#"
        select clock_now() - interval '1 second' - coalesce(max(greatest(now() - xact_start, interval '0')), interval '0') as "settled!"
        from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
            and (backend_xid is not null or xact_start > now() - interval '5 minutes')
        "#
    )
    .fetch_one(&mut *connection)
    .await?;
    let rows = query!(
        r#"
        select id, finished_at as "finished_at!" from runs
        where logs_kept and finished_at is not null and finished_at >= $1 and (finished_at > $1 or id > $2) and finished_at <= $3
        order by finished_at, id limit $4
        "#,
        place.at,
        place.id,
        settled,
        max
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (RunId::from_uuid(row.id), Place { at: row.finished_at, id: row.id })).collect())
}

/// What has been sent in all; none: there never was an export.
///
/// # Errors
/// If the database does not answer.
pub async fn sent(store: &Store) -> Result<Option<Sent>, StoreError> {
    let row = query!("select runs, spans, refused from trace_exports where name = $1", NAME)
        .fetch_optional(&mut *store.read().await?)
        .await?;
    let count = super::rows::count;
    Ok(row.map(|row| Sent { runs: count(row.runs), spans: count(row.spans), refused: count(row.refused) }))
}
