//! Rewritten components that are kept.

use std::time::Duration;

use sqlx::{PgConnection, query, query_as, query_scalar};

use super::{StoreError, leases::interval};
use crate::model::rewriting::Rewriting;

/// The one of a component by a version of the rewriter, which is no longer dropped then; none if there is none.
///
/// # Errors
/// If the database does not answer.
pub async fn take_up(connection: &mut PgConnection, component: String, rewriter: u32) -> Result<Option<Rewriting>, StoreError> {
    let digest = query_scalar!(
        "update rewritings set dropped_at = null where component = $1 and rewriter = $2 returning digest",
        component,
        rewriter as i32
    )
    .fetch_optional(connection)
    .await?;
    Ok(digest.map(|digest| Rewriting { component, rewriter, digest }))
}

/// Writes it down, unless there is one of this component by this version, which is no longer dropped then. Returns the one
/// that there is now.
///
/// # Errors
/// If the database does not answer.
pub async fn keep(connection: &mut PgConnection, new: Rewriting) -> Result<Rewriting, StoreError> {
    let digest = query_scalar!(
        "insert into rewritings (component, rewriter, digest) values ($1, $2, $3)
         on conflict (component, rewriter) do update set dropped_at = null
         returning digest",
        new.component,
        new.rewriter as i32,
        new.digest
    )
    .fetch_one(connection)
    .await?;
    Ok(Rewriting { digest, ..new })
}

/// Drops those that nothing will need as things are: of a version before `current`, or of a component that was never
/// deployed; and neither named by a checkpoint nor in the hands of a run that executes. Returns how many.
///
/// # Errors
/// If the database does not answer.
pub async fn drop_unneeded(connection: &mut PgConnection, current: u32, least_age: Duration) -> Result<u64, StoreError> {
    let dropped = query!(
        "update rewritings w set dropped_at = clock_now()
         where w.dropped_at is null and w.created_at <= clock_now() - $2::interval
             and (w.rewriter < $1 or not exists (select from deployments d where d.component = w.component))
             and not exists (select from checkpoints c where c.rewritten = w.digest)
             and not exists (
                 select from runs r join deployments d on d.id = r.deployment_id
                 where r.lease_worker is not null and d.component = w.component
             )",
        current as i32,
        interval(least_age)
    )
    .execute(connection)
    .await?;
    Ok(dropped.rows_affected())
}

/// Forgets those that were dropped longer ago than `keep` and that still nothing needs. Who claimed a run before that has
/// suspended it by now, which a checkpoint shows, or executes it still, which its lease shows: both in this one statement,
/// since a suspension gives up the one with the commit that writes the other.
///
/// # Errors
/// If the database does not answer.
pub async fn forget_dropped(connection: &mut PgConnection, keep: Duration) -> Result<Vec<Rewriting>, StoreError> {
    struct Row {
        component: String,
        rewriter: i32,
        digest: String,
    }
    let rows = query_as!(
        Row,
        "delete from rewritings w
         where w.dropped_at <= clock_now() - $1::interval
             and not exists (select from checkpoints c where c.rewritten = w.digest)
             and not exists (
                 select from runs r join deployments d on d.id = r.deployment_id
                 where r.lease_worker is not null and d.component = w.component
             )
         returning component, rewriter, digest",
        interval(keep)
    )
    .fetch_all(connection)
    .await?;
    let rewriting = |row: Row| Rewriting { component: row.component, rewriter: row.rewriter as u32, digest: row.digest };
    Ok(rows.into_iter().map(rewriting).collect())
}
