//! Waitpoints: timers and tokens. How runs wait for them is said in [`edges`](super::edges).

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{Listing, Page, Store, StoreError, children::Standing, rows};
use crate::model::{
    id::{EnvironmentId, RunId, WaitpointId, WaitpointKind as WaitpointIdKind},
    key,
    payload::Packet,
    stream::{InputValue, StreamId},
    waitpoint::{Idempotency, Resolution, Token, WaitpointKind, WaitpointStatus},
};

/// Longest time that a key counts, in milliseconds: Postgres has no room for more than some ages. A hundred years.
const MAX_KEY_TTL_MS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// Which tokens a list shows; an empty list filters nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// With one of these statuses.
    pub statuses: Vec<WaitpointStatus>,
    /// Made with this key.
    pub idempotency_key: Option<String>,
    /// With at least one of these tags.
    pub tags: Vec<String>,
    /// Made at this time or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Made at this time or earlier.
    pub created_to: Option<DateTime<Utc>>,
}

struct Row {
    id: Uuid,
    environment_id: Uuid,
    status: String,
    created_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    idempotency_key: Option<String>,
    idempotency_expires_at: Option<DateTime<Utc>>,
    tags: Vec<String>,
    output: Option<Vec<u8>>,
    output_type: Option<String>,
}

impl Row {
    fn token(self) -> Result<Token, StoreError> {
        Ok(Token {
            id: WaitpointId::from_uuid(self.id),
            status: rows::waitpoint_status(&self.status)?,
            created_at: self.created_at,
            completed_at: self.completed_at,
            timeout_at: self.due_at,
            idempotency_key: self.idempotency_key,
            idempotency_key_expires_at: self.idempotency_expires_at,
            tags: self.tags,
            output: rows::packet(self.output, self.output_type),
        })
    }
}

/// A token.
///
/// # Errors
/// If the database does not answer.
pub async fn get_token(store: &Store, environment: EnvironmentId, id: WaitpointId) -> Result<Option<Token>, StoreError> {
    Ok(find_token(store, id).await?.filter(|(owner, _)| *owner == environment).map(|(_, token)| token))
}

/// A token by its id alone, with its environment: for its callback address, which names nothing else.
///
/// # Errors
/// If the database does not answer.
pub async fn find_token(store: &Store, id: WaitpointId) -> Result<Option<(EnvironmentId, Token)>, StoreError> {
    let row = query_as!(
        Row,
        "select id, environment_id, status, created_at, completed_at, due_at, idempotency_key, idempotency_expires_at,
            tags, output, output_type
         from waitpoints where id = $1 and kind = 'TOKEN'",
        id.uuid()
    )
    .fetch_optional(&mut *store.read().await?)
    .await?;
    row.map(|row| Ok((EnvironmentId::from_uuid(row.environment_id), row.token()?))).transpose()
}

/// Tokens, newest first, without their outputs.
///
/// # Errors
/// If the database does not answer.
pub async fn list_tokens(
    store: &Store,
    environment: EnvironmentId,
    filter: &Filter,
    page: Page<WaitpointIdKind>,
) -> Result<Listing<Token, WaitpointIdKind>, StoreError> {
    let cut = page.cut();
    let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    let found = query_as!(
        Row,
        r#"
        select id, environment_id, status, created_at, completed_at, due_at, idempotency_key, idempotency_expires_at,
            tags, null::bytea as output, null::text as output_type
        from waitpoints
        where environment_id = $1 and kind = 'TOKEN'
            and (cardinality($2::text[]) = 0 or status = any($2))
            and ($3::text is null or idempotency_key = $3)
            and (cardinality($4::text[]) = 0 or tags && $4)
            and ($5::timestamptz is null or created_at >= $5)
            and ($6::timestamptz is null or created_at <= $6)
            and ($7::uuid is null or id < $7) and ($8::uuid is null or id > $8)
        order by case when $8::uuid is null then id end desc, id
        limit $9
        "#,
        environment.uuid(),
        &statuses as &[&str],
        filter.idempotency_key,
        &filter.tags,
        filter.created_from,
        filter.created_to,
        cut.below,
        cut.above,
        cut.limit
    )
    .fetch_all(&mut *store.browse().await?)
    .await?;
    let found = found.into_iter().map(Row::token).collect::<Result<Vec<_>, _>>()?;
    Ok(page.listing(found, |token| token.id))
}

/// A waitpoint to be made.
#[derive(Debug)]
pub struct NewWaitpoint<'a> {
    /// Timer or token.
    pub kind: WaitpointKind,
    /// When a timer elapses or a token times out.
    pub due_at: Option<DateTime<Utc>>,
    /// Its key.
    pub idempotency_key: Option<&'a str>,
    /// Milliseconds the key counts; none: for ever.
    pub key_ttl_ms: Option<i64>,
    /// Its tags.
    pub tags: &'a [String],
    /// The run that makes it.
    pub maker: Option<RunId>,
}

fn kind_text(kind: WaitpointKind) -> &'static str {
    match kind {
        WaitpointKind::Timer => "TIMER",
        WaitpointKind::Token => "TOKEN",
        WaitpointKind::Input => "INPUT",
    }
}

/// Writes a waitpoint; none if another one has its key.
///
/// # Errors
/// If the database does not answer.
pub async fn insert(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    new: &NewWaitpoint<'_>,
) -> Result<Option<WaitpointId>, StoreError> {
    let id = query_scalar!(
        "insert into waitpoints (id, environment_id, kind, status, due_at, idempotency_key, idempotency_expires_at,
            idempotency_active, tags, maker_id)
         values ($1, $2, $3, 'WAITING', $4, $5::text, clock_now() + $6::bigint * interval '1 millisecond',
            $5::text is not null, $7, $8)
         on conflict (environment_id, kind, idempotency_key) where idempotency_active do nothing
         returning id",
        WaitpointId::new().uuid(),
        environment.uuid(),
        kind_text(new.kind),
        new.due_at,
        new.idempotency_key,
        new.key_ttl_ms,
        new.tags,
        new.maker.map(|run| run.uuid())
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(WaitpointId::from_uuid))
}

/// The waitpoint that holds a key. A key whose time is over is released on the way: then there is none.
///
/// # Errors
/// If the database does not answer.
pub async fn holder_of_key(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    kind: WaitpointKind,
    key: &str,
) -> Result<Option<WaitpointId>, StoreError> {
    let row = query!(
        r#"
        select id, coalesce(idempotency_expires_at <= clock_now(), false) as "is_over!" from waitpoints
        where environment_id = $1 and kind = $2 and idempotency_key = $3 and idempotency_active
        for no key update
        "#,
        environment.uuid(),
        kind_text(kind),
        key
    )
    .fetch_optional(&mut *connection)
    .await?;
    match row {
        Some(row) if row.is_over => {
            query!("update waitpoints set idempotency_active = false where id = $1", row.id).execute(connection).await?;
            Ok(None)
        }
        row => Ok(row.map(|row| WaitpointId::from_uuid(row.id))),
    }
}

/// How these waitpoints stand. Those that are not in the environment, if one is named, are missing.
///
/// # Errors
/// If the database does not answer.
pub async fn standing(
    connection: &mut PgConnection,
    environment: Option<EnvironmentId>,
    ids: &[WaitpointId],
) -> Result<Vec<(WaitpointId, Standing)>, StoreError> {
    let rows = query!(
        r#"
        select id, status <> 'WAITING' as "is_complete!", coalesce(octet_length(output), 0)::bigint as "bytes!" from waitpoints
        where id = any($1) and ($2::uuid is null or environment_id = $2)
        "#,
        &rows::uuids(ids),
        environment.map(|environment| environment.uuid())
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (WaitpointId::from_uuid(row.id), Standing::of(row.is_complete, row.bytes))).collect())
}

/// What these waitpoints came to; open ones are missing.
///
/// # Errors
/// If the database does not answer.
pub async fn resolutions(
    connection: &mut PgConnection,
    ids: &[WaitpointId],
) -> Result<Vec<(WaitpointId, Resolution)>, StoreError> {
    let rows = query!(
        "select id, kind, status, due_at, completed_at, output, output_type, input_stream, input_index from waitpoints
         where id = any($1) and status <> 'WAITING'",
        &rows::uuids(ids)
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .filter_map(|row| {
            let resolution = match rows::waitpoint_status(&row.status) {
                Err(error) => return Some(Err(error)),
                Ok(WaitpointStatus::Waiting) => return None,
                Ok(WaitpointStatus::TimedOut) if row.kind == "INPUT" => Resolution::NoInput(row.due_at.or(row.completed_at)?),
                Ok(WaitpointStatus::TimedOut) => Resolution::TimedOut(row.due_at.or(row.completed_at)?),
                Ok(WaitpointStatus::Completed) if row.kind == "TIMER" => Resolution::Elapsed,
                Ok(WaitpointStatus::Completed) if row.kind == "INPUT" => Resolution::Input(InputValue {
                    stream: row.input_stream?,
                    index: rows::count(row.input_index?),
                    value: rows::packet(row.output, row.output_type)?,
                }),
                Ok(WaitpointStatus::Completed) => {
                    Resolution::Completed(rows::packet(row.output, row.output_type).unwrap_or_else(Packet::empty))
                }
            };
            Some(Ok((WaitpointId::from_uuid(row.id), resolution)))
        })
        .collect()
}

/// Completes an open token with a value. False if there is no such token, or it is not open.
///
/// # Errors
/// If the database does not answer.
pub async fn complete(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    id: WaitpointId,
    value: &Packet,
) -> Result<bool, StoreError> {
    let done = query!(
        "update waitpoints set status = 'COMPLETED', output = $3, output_type = $4, completed_at = clock_now()
         where id = $1 and environment_id = $2 and kind = 'TOKEN' and status = 'WAITING'",
        id.uuid(),
        environment.uuid(),
        value.data,
        value.content_type
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// A wait for a value to be made.
#[derive(Debug)]
pub struct NewInput<'a> {
    /// An input stream of the run that makes it.
    pub stream: &'a StreamId,
    /// Values of a higher index complete it; none: any value does.
    pub after: Option<u64>,
    /// When it times out.
    pub timeout_at: Option<DateTime<Utc>>,
    /// Its key.
    pub idempotency: Option<&'a Idempotency>,
}

/// Writes a wait for a value; none if another one has its key.
///
/// # Errors
/// If the database does not answer.
pub async fn insert_input(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    new: &NewInput<'_>,
) -> Result<Option<WaitpointId>, StoreError> {
    let id = query_scalar!(
        "insert into waitpoints (id, environment_id, kind, status, due_at, idempotency_key, idempotency_expires_at,
            idempotency_active, maker_id, input_stream, input_after)
         values ($1, $2, 'INPUT', 'WAITING', $3, $4::text, clock_now() + $5::bigint * interval '1 millisecond',
            $4::text is not null, $6, $7, $8)
         on conflict (environment_id, kind, idempotency_key) where idempotency_active do nothing
         returning id",
        WaitpointId::new().uuid(),
        environment.uuid(),
        new.timeout_at,
        new.idempotency.map(|idempotency| key::indexed(idempotency.key.clone())),
        new.idempotency.and_then(|idempotency| idempotency.ttl_ms).map(|ms| ms.min(MAX_KEY_TTL_MS) as i64),
        new.stream.run.uuid(),
        new.stream.key,
        new.after.map_or(-1, |after| after.min(i64::MAX as u64) as i64)
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(WaitpointId::from_uuid))
}

/// Completes the open waits for a value of this stream with the one that has just come, and returns them. Does not wait for those that
/// somebody else holds: then it fails with [`StoreError::Undone`].
///
/// # Errors
/// If the database does not answer.
pub async fn complete_inputs(
    connection: &mut PgConnection,
    stream: &StreamId,
    index: u64,
    data: &str,
    content_type: &str,
) -> Result<Vec<Uuid>, StoreError> {
    Ok(query_scalar!(
        "with open as (
            select id from waitpoints
            where maker_id = $1 and input_stream = $2 and kind = 'INPUT' and status = 'WAITING' and input_after < $3
            order by id for no key update nowait
         )
         update waitpoints w
         set status = 'COMPLETED', output = convert_to($4, 'UTF8'), output_type = $5, input_index = $3, completed_at = clock_now()
         from open where w.id = open.id returning w.id",
        stream.run.uuid(),
        stream.key,
        index as i64,
        data,
        content_type
    )
    .fetch_all(connection)
    .await?)
}

/// Completes a wait for a value, just made, with the one at this index, which is there.
///
/// # Errors
/// If the database does not answer.
pub async fn complete_input_with(
    connection: &mut PgConnection,
    id: WaitpointId,
    stream: &StreamId,
    index: u64,
) -> Result<(), StoreError> {
    query!(
        "update waitpoints w
         set status = 'COMPLETED', output = convert_to(c.chunks[1], 'UTF8'), output_type = c.content_type, input_index = c.last_index,
             completed_at = clock_now()
         from stream_chunks c
         where w.id = $1 and c.run_id = $2 and c.direction = 'IN' and c.key = $3 and c.last_index = $4",
        id.uuid(),
        stream.run.uuid(),
        stream.key,
        index as i64
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether there is such a token.
///
/// # Errors
/// If the database does not answer.
pub async fn token_exists(
    connection: &mut PgConnection,
    environment: EnvironmentId,
    id: WaitpointId,
) -> Result<bool, StoreError> {
    let found = query_scalar!(
        "select id from waitpoints where id = $1 and environment_id = $2 and kind = 'TOKEN'",
        id.uuid(),
        environment.uuid()
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Closes at most `max` waitpoints whose time has come: timers elapse, tokens time out.
///
/// # Errors
/// If the database does not answer.
pub async fn close_due(connection: &mut PgConnection, max: i64) -> Result<Vec<Uuid>, StoreError> {
    Ok(query_scalar!(
        "with due as (
            select id from waitpoints
            where status = 'WAITING' and due_at is not null and due_at <= clock_now()
            order by due_at limit $1 for no key update skip locked
         )
         update waitpoints w
         set status = case when w.kind = 'TIMER' then 'COMPLETED' else 'TIMED_OUT' end, completed_at = clock_now()
         from due where w.id = due.id returning w.id",
        max
    )
    .fetch_all(connection)
    .await?)
}
