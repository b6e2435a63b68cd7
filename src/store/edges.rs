//! The edges from suspended runs to what they wait for.
//!
//! Who suspends holds its run and then locks what it waits for (`for share`); who completes something holds that and then
//! locks the runs whose edges name it. An edge that is not committed yet is seen by nobody, so the two cannot wait for each
//! other: either the suspension sees the completion, or the completion sees the edge.
//!
//! Two completions that concern one run take turns at its lock, and each looks at the edges only afterwards. So the last
//! of a group of edges is seen to be the last by exactly one of them, and a run that has gone on meanwhile is left alone.

use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{StoreError, notify, rows};
use crate::model::{
    event::EventKind,
    id::{EnvironmentId, RunId, WaitpointId},
};

/// From a run that is being suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The waitpoint or run that is waited for.
    pub to: Uuid,
    /// Edges with the same number are needed together; none: this one is enough.
    pub together: Option<i32>,
}

/// Puts the edges of a suspended run in place of those it had.
///
/// # Errors
/// If the database does not answer.
pub async fn set(connection: &mut PgConnection, run: RunId, edges: &[Edge]) -> Result<(), StoreError> {
    let to: Vec<Uuid> = edges.iter().map(|edge| edge.to).collect();
    let together: Vec<Option<i32>> = edges.iter().map(|edge| edge.together).collect();
    query!("delete from run_waits where run_id = $1", run.uuid()).execute(&mut *connection).await?;
    query!(
        r#"
        insert into run_waits (run_id, index, waitpoint_id, together)
        select $1, (place - 1)::integer, id, together
        from unnest($2::uuid[], $3::integer[]) with ordinality as edge (id, together, place)
        "#,
        run.uuid(),
        &to,
        &together as &[Option<i32>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps these waitpoints as they are until the transaction ends, and says which of them are open. A completion that is
/// under way is waited for.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_waitpoints(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    ids: &[WaitpointId],
) -> Result<Vec<(Uuid, bool)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query!(
        r#"
        select id, status = 'WAITING' as "is_open!" from waitpoints
        where id = any($1) and environment_id is not distinct from $2 order by id for share
        "#,
        &rows::uuids(ids),
        environment.uuid()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.is_open)).collect())
}

/// Keeps these runs from ending until the transaction does, and says which of them are not final. An end that is under way is
/// waited for.
///
/// # Errors
/// If the database does not answer.
pub async fn lock_runs(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, bool)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query!(
        r#"
        select id, finished_at is null as "is_open!" from runs
        where id = any($1) and environment_id is not distinct from $2 order by id for share
        "#,
        ids,
        environment.uuid()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.is_open)).collect())
}

/// The runs that wait for one of these.
///
/// # Errors
/// If the database does not answer.
pub async fn blocked_by(connection: &mut PgConnection, completed: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    Ok(query_scalar!("select distinct run_id from run_waits where waitpoint_id = any($1)", completed)
        .fetch_all(connection)
        .await?)
}

/// These are complete: takes the edges to them away, and whoever of the `blocked` has nothing left to wait for comes back into
/// line, at the place it had, which is entered and told to workers. Its other edges go with it. Locks the runs in the order of
/// their ids, so that two completions that concern the same runs do not block each other.
///
/// # Errors
/// If the database does not answer.
pub async fn meet(connection: &mut PgConnection, completed: &[Uuid], blocked: &[Uuid]) -> Result<(), StoreError> {
    if blocked.is_empty() {
        return Ok(());
    }
    // A statement of its own: the next one sees what others did before they gave these locks up.
    let waiting =
        query_scalar!("select id from runs where id = any($1) and status = 'WAITING' order by id for no key update", blocked)
            .fetch_all(&mut *connection)
            .await?;
    if waiting.is_empty() {
        return Ok(());
    }
    query!(
        r#"
        with met as (
            delete from run_waits where run_id = any($1) and waitpoint_id = any($2) returning run_id, together
        ), ready as (
            select distinct m.run_id from met m
            where m.together is null or not exists (
                -- Those that are met are still to be seen here.
                select from run_waits w
                where w.run_id = m.run_id and w.together = m.together and w.waitpoint_id <> all($2)
            )
        ), woken as (
            update runs r
            set status = 'QUEUED', due_at = null, updated_at = clock_now(), event_seq = r.event_seq + 1
            from ready where r.id = ready.run_id
            returning r.id, r.event_seq
        ), needless as (
            delete from run_waits where run_id = any(array(select id from woken)) and waitpoint_id <> all($2)
        ), entries as (
            insert into run_events (run_id, seq, at, kind, status)
            select id, event_seq, clock_now(), $3, 'QUEUED' from woken
        )
        select pg_notify($4, replace(id::text, '-', '')) from woken
        union all
        select pg_notify($5, '') where exists (select from woken)
        "#,
        &waiting,
        completed,
        EventKind::Resumed.as_str(),
        notify::RUNS,
        notify::LINE
    )
    .execute(connection)
    .await?;
    Ok(())
}
