//! The spans that guests begin.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, rows};
use crate::model::{
    attempt::Lease,
    id::RunId,
    trace::{SpanBegin, SpanEnd, SpanId},
};

/// A span to be written.
#[derive(Debug, Clone)]
pub struct NewSpan {
    /// Its id.
    pub id: SpanId,
    /// How it began.
    pub begin: SpanBegin,
    /// Its end, if that has come already.
    pub end: Option<SpanEnd>,
}

/// How many spans a run has begun; counted up to `most`.
///
/// # Errors
/// If the database does not answer.
pub async fn count(connection: &mut PgConnection, run: RunId, most: u32) -> Result<u32, StoreError> {
    let count = query_scalar!(
        r#"select count(*) as "count!" from (select from spans where run_id = $1 limit $2) as found"#,
        run.uuid(),
        i64::from(most)
    )
    .fetch_one(connection)
    .await?;
    Ok(u32::try_from(count).unwrap_or(most))
}

/// Writes spans, each id once. A run that lost its host begins the same ones again: then that is how it was.
///
/// # Errors
/// If the database does not answer.
pub async fn begin(connection: &mut PgConnection, lease: &Lease, spans: &[NewSpan]) -> Result<(), StoreError> {
    let ids: Vec<i64> = spans.iter().map(|span| column(span.id)).collect();
    let parents: Vec<Option<i64>> = spans.iter().map(|span| span.begin.parent.map(column)).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.begin.name.as_str()).collect();
    let begins: Vec<DateTime<Utc>> = spans.iter().map(|span| span.begin.at).collect();
    let attributes: Vec<Option<String>> = spans.iter().map(|span| json(&span.begin.attributes)).collect();
    let ends: Vec<Option<DateTime<Utc>>> = spans.iter().map(|span| span.end.as_ref().map(|end| end.at)).collect();
    let added: Vec<Option<String>> = spans.iter().map(|span| span.end.as_ref().and_then(|end| json(&end.attributes))).collect();
    let errors: Vec<Option<&str>> = spans.iter().map(|span| span.end.as_ref()?.error.as_deref()).collect();
    query!(
        "insert into spans (run_id, attempt, id, parent_id, name, started_at, attributes, ended_at, end_attributes, error)
         select $1, $2, id, parent_id, name, started_at, attributes::json, ended_at, end_attributes::json, error
         from unnest($3::bigint[], $4::bigint[], $5::text[], $6::timestamptz[], $7::text[], $8::timestamptz[], $9::text[], $10::text[])
             as span (id, parent_id, name, started_at, attributes, ended_at, end_attributes, error)
         on conflict (run_id, id) do update set parent_id = excluded.parent_id, name = excluded.name,
             started_at = excluded.started_at, attributes = excluded.attributes, ended_at = excluded.ended_at,
             end_attributes = excluded.end_attributes, error = excluded.error",
        lease.run.uuid(),
        lease.attempt as i32,
        &ids,
        &parents as &[Option<i64>],
        &names as &[&str],
        &begins,
        &attributes as &[Option<String>],
        &ends as &[Option<DateTime<Utc>>],
        &added as &[Option<String>],
        &errors as &[Option<&str>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends those of these spans of a run that go on.
///
/// # Errors
/// If the database does not answer.
pub async fn end(connection: &mut PgConnection, run: RunId, ended: &[SpanEnd]) -> Result<(), StoreError> {
    let ids: Vec<i64> = ended.iter().map(|end| column(end.id)).collect();
    let ats: Vec<DateTime<Utc>> = ended.iter().map(|end| end.at).collect();
    let attributes: Vec<Option<String>> = ended.iter().map(|end| json(&end.attributes)).collect();
    let errors: Vec<Option<&str>> = ended.iter().map(|end| end.error.as_deref()).collect();
    query!(
        "update spans s set ended_at = over.at, end_attributes = over.attributes::json, error = over.error
         from unnest($2::bigint[], $3::timestamptz[], $4::text[], $5::text[]) as over (id, at, attributes, error)
         where s.run_id = $1 and s.id = over.id and s.ended_at is null",
        run.uuid(),
        &ids,
        &ats,
        &attributes as &[Option<String>],
        &errors as &[Option<&str>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The number as the column holds it: its highest bit is the sign.
fn column(id: SpanId) -> i64 {
    id.number() as i64
}

/// None for no attributes.
fn json(attributes: &Map<String, Value>) -> Option<String> {
    (!attributes.is_empty()).then(|| rows::to_json(attributes))
}
