//! Log lines of runs.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};

use super::{Store, StoreError, rows};
use crate::model::{attempt::Lease, id::RunId, log::LogRecord, trace::SpanId};

/// Most lines of one answer.
const MAX: u32 = 1000;

/// A line as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// From 1, without gaps within a run: the cursor.
    pub line: u32,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// What was written.
    pub record: LogRecord,
}

/// A run's lines after `line` (0: from the start), oldest first, at most `limit` (and 1000).
///
/// # Errors
/// If the database does not answer.
pub async fn after(store: &Store, run: RunId, line: u32, limit: u32) -> Result<Vec<Line>, StoreError> {
    query!(
        "select line, attempt, at, level, source, message, attributes, span_id from logs
         where run_id = $1 and line > $2 order by line limit $3",
        run.uuid(),
        line as i32,
        i64::from(limit.min(MAX))
    )
    .fetch_all(&mut *store.read().await?)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Line {
            line: row.line.unsigned_abs(),
            attempt: row.attempt.unsigned_abs(),
            record: LogRecord {
                at: row.at,
                level: rows::level(&row.level)?,
                source: rows::source(&row.source)?,
                message: row.message,
                attributes: row.attributes.unwrap_or(Value::Null),
                span: row.span_id.and_then(|span| SpanId::of(span as u64)),
            },
        })
    })
    .collect()
}

/// The number of the last line of this lease's run, which no other transaction adds to until this one ends; none if the
/// lease is not the newest.
///
/// # Errors
/// If the database does not answer.
pub async fn last_line(connection: &mut PgConnection, lease: &Lease) -> Result<Option<u32>, StoreError> {
    // A lock of the run's row would hold up its heartbeat; this one holds up nothing but the run's own log.
    query_scalar!(
        r#"select pg_advisory_xact_lock(hashtextextended('logs:' || $1::text, 0))::text as "lock""#,
        lease.run.to_string()
    )
    .fetch_one(&mut *connection)
    .await?;
    let last = query_scalar!(
        r#"
        select coalesce((select max(line) from logs where run_id = r.id), 0) as "last!"
        from runs r where r.id = $1 and r.epoch = $2
        "#,
        lease.run.uuid(),
        lease.epoch
    )
    .fetch_optional(connection)
    .await?;
    Ok(last.map(i32::unsigned_abs))
}

/// Adds lines after the last one.
///
/// # Errors
/// If the database does not answer.
pub async fn insert(connection: &mut PgConnection, lease: &Lease, last: u32, lines: &[LogRecord]) -> Result<(), StoreError> {
    let ats: Vec<DateTime<Utc>> = lines.iter().map(|line| line.at).collect();
    let levels: Vec<&str> = lines.iter().map(|line| line.level.as_str()).collect();
    let sources: Vec<&str> = lines.iter().map(|line| line.source.as_str()).collect();
    let messages: Vec<&str> = lines.iter().map(|line| line.message.as_str()).collect();
    let attributes = lines.iter().map(|line| Some(&line.attributes).filter(|attributes| !attributes.is_null()));
    let attributes: Vec<Option<String>> = attributes.map(|attributes| attributes.map(rows::to_json)).collect();
    let spans: Vec<Option<i64>> = lines.iter().map(|line| line.span.map(|span| span.number() as i64)).collect();
    query!(
        "insert into logs (run_id, line, attempt, at, level, source, message, attributes, span_id)
         select $1, $2 + place::integer, $3, at, level, source, message, attributes::json, span_id
         from unnest($4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[])
             with ordinality as line (at, level, source, message, attributes, span_id, place)",
        lease.run.uuid(),
        last as i32,
        lease.attempt as i32,
        &ats,
        &levels as &[&str],
        &sources as &[&str],
        &messages as &[&str],
        &attributes as &[Option<String>],
        &spans as &[Option<i64>]
    )
    .execute(connection)
    .await?;
    Ok(())
}
