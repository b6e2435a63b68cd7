//! Finds and deletes what has been over for long. Ids grow with time, so each table is walked from its oldest row on, some rows in
//! a step, and what has to stay is passed by: a step reads a bounded number of rows, whatever they are.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::StoreError;

/// Where a walk is, and how far it goes.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// Ids up to this one have been looked at.
    pub after: Uuid,
    /// Ids from this one on are too young.
    pub before: Uuid,
    /// What was over by then may go.
    pub over_by: DateTime<Utc>,
    /// Most rows of a step.
    pub step: i64,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stepped {
    /// The last id that was looked at; none: there is none left.
    pub last: Option<Uuid>,
    /// Rows that were deleted, with all that belonged to them.
    pub deleted: u64,
}

/// Deletes final runs, with their attempts, events, logs and spans. Those stay whose idempotency key counts still, and those whose parent goes
/// on: it may wait for others that were started with them.
///
/// # Errors
/// If the database does not answer.
pub async fn runs(connection: &mut PgConnection, walk: &Walk) -> Result<Stepped, StoreError> {
    let rows = query!(
        r#"
        select r.id, coalesce(r.finished_at <= $3, false)
            and not (r.idempotency_active and coalesce(r.idempotency_expires_at > clock_now(), true))
            and not exists (select from runs parent where parent.id = r.parent_id and parent.finished_at is null) as "may_go!"
        from runs r where r.id > $1 and r.id < $2
        order by r.id limit $4 for update of r skip locked
        "#,
        walk.after,
        walk.before,
        walk.over_by,
        walk.step
    )
    .fetch_all(&mut *connection)
    .await?;
    let last = rows.last().map(|row| row.id);
    let old: Vec<Uuid> = rows.into_iter().filter(|row| row.may_go).map(|row| row.id).collect();
    // Checkpoints and edges go with the row; a final run has none, nor a journal.
    let gone = query!(
        "with tries as (delete from attempts where run_id = any($1)),
              entries as (delete from run_events where run_id = any($1)),
              lines as (delete from logs where run_id = any($1)),
              measured as (delete from spans where run_id = any($1)),
              calls as (delete from journal where run_id = any($1)),
              said as (delete from streams where run_id = any($1)),
              pieces as (delete from stream_chunks where run_id = any($1)),
              -- Those that no value has completed are complete never.
              waits as (delete from waitpoints where maker_id = any($1) and kind = 'INPUT' and status = 'WAITING')
         delete from runs where id = any($1)",
        &old
    )
    .execute(connection)
    .await?;
    Ok(Stepped { last, deleted: gone.rows_affected() })
}

/// Deletes batches, with their items, that are made or were given up, once none of their runs is there. Those stay whose idempotency
/// key counts still.
///
/// # Errors
/// If the database does not answer.
pub async fn batches(connection: &mut PgConnection, walk: &Walk) -> Result<Stepped, StoreError> {
    let rows = query!(
        r#"
        select b.id, b.stage in ('MADE', 'ABORTED') and b.updated_at <= $3
            and not (b.idempotency_active and coalesce(b.idempotency_expires_at > clock_now(), true))
            and not exists (select from runs parent where parent.id = b.parent_id and parent.finished_at is null)
            and not exists (select from batch_items item join runs r on r.id = item.run_id where item.batch_id = b.id) as "may_go!"
        from batches b where b.id > $1 and b.id < $2
        order by b.id limit $4 for update of b skip locked
        "#,
        walk.after,
        walk.before,
        walk.over_by,
        walk.step
    )
    .fetch_all(&mut *connection)
    .await?;
    let last = rows.last().map(|row| row.id);
    let old: Vec<Uuid> = rows.into_iter().filter(|row| row.may_go).map(|row| row.id).collect();
    let gone = query!("delete from batches where id = any($1)", &old).execute(connection).await?;
    Ok(Stepped { last, deleted: gone.rows_affected() })
}

/// Deletes tokens and timers that are complete and for which nobody waits. Those stay whose idempotency key has an end that is
/// still to come, and those whose maker goes on.
///
/// # Errors
/// If the database does not answer.
pub async fn waitpoints(connection: &mut PgConnection, walk: &Walk) -> Result<Stepped, StoreError> {
    let rows = query!(
        r#"
        select w.id, coalesce(w.completed_at <= $3, false)
            and not (w.idempotency_active and coalesce(w.idempotency_expires_at > clock_now(), false))
            and not exists (select from runs maker where maker.id = w.maker_id and maker.finished_at is null)
            and not exists (select from run_waits edge where edge.waitpoint_id = w.id) as "may_go!"
        from waitpoints w where w.id > $1 and w.id < $2
        order by w.id limit $4 for update of w skip locked
        "#,
        walk.after,
        walk.before,
        walk.over_by,
        walk.step
    )
    .fetch_all(&mut *connection)
    .await?;
    let last = rows.last().map(|row| row.id);
    let old: Vec<Uuid> = rows.into_iter().filter(|row| row.may_go).map(|row| row.id).collect();
    let gone = query!("delete from waitpoints where id = any($1)", &old).execute(connection).await?;
    Ok(Stepped { last, deleted: gone.rows_affected() })
}
