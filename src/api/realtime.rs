//! Feeds of runs: one run, those with tags, those of a batch. A first request gets what is there; further ones wait for what changes.
//! Source: facts 8.
//!
//! One run is followed by the number of its last change, which its row holds: any server goes on from there. Of several runs each
//! server keeps what changed in an order of its own, so a subscriber that comes from another server, or from before a restart, is
//! sent back to the beginning, as is one that was away for too long. It sees all runs again, and misses none.

use std::time::Duration;

use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::{
    AppState, Error,
    auth::Caller,
    error::ErrorBody,
    pagination::Parameters,
    shape::{self, Kind, Messages, Names, Operation, Place},
    when,
};
use crate::{
    model::{
        feed::Selection,
        id::{BatchId, RunId},
        token::{MAX_TAG_CHARS, MAX_TAGS},
    },
    realtime::{Full, News, Shown, Subscription},
    store::{batches, feeds},
};

/// How long a request is held for which nothing happens, and how much more or less. Source: facts 8.3.
const HOLD: Duration = Duration::from_secs(20);
const HOLD_SPREAD: f64 = 0.15;
/// Bytes after which an answer takes no further row.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Rows of a snapshot that are read at once.
const AT_ONCE: usize = 25;
/// How far back the feed of tags goes, unless it is asked for less. Source: facts 8.7.
const WINDOW: TimeDelta = TimeDelta::days(1);

/// Where a feed goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what is read by name")]
struct FeedQuery {
    /// -1 or nothing: from the beginning; then what the last answer said
    offset: Option<String>,
    /// What the last answer said
    handle: Option<String>,
    /// Wait up to 20 seconds for a change
    live: Option<bool>,
    /// Comma-separated
    skip_columns: Option<String>,
}

/// What a feed's request says.
struct Asked {
    names: Names,
    /// None: from the beginning.
    place: Option<Place>,
    is_live: bool,
    skip: Vec<String>,
}

impl Asked {
    fn of(query: &Parameters, headers: &HeaderMap, caller: &Caller) -> Asked {
        let names = Names::of(headers);
        let offset = query.text("offset").unwrap_or(shape::BEGINNING);
        let handle = query.text("handle").or_else(|| query.text(names.parameter));
        let place = (offset != shape::BEGINNING).then(|| Place {
            names,
            handle: handle.unwrap_or_default().to_owned(),
            offset: offset.to_owned(),
        });
        // What the token says counts: who signed it knows what its holder may see.
        let of_token = caller.token.as_ref().and_then(|token| token.claims.realtime.clone());
        let skip = of_token.map(|realtime| realtime.skip_columns).filter(|skip| !skip.is_empty());
        Asked {
            names,
            place,
            is_live: query.text("live") == Some("true"),
            skip: skip.unwrap_or_else(|| query.list("skipColumns")),
        }
    }
}

/// Follows one run.
#[utoipa::path(get, path = "/realtime/v1/runs/{runId}", tag = "realtime", security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path), FeedQuery),
    responses((status = 200, body = Vec<Object>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = Vec<Object>, description = "Begin again"),
        (status = 429, body = ErrorBody)))]
pub(super) async fn run(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let id: RunId = id.parse().map_err(|_| Error::not_found("run"))?;
    let asked = Asked::of(&query, &headers, &caller);
    let subscription = state.hub.subscribe(caller.environment.id, &Selection::Run(id))?;
    let now = if asked.is_live { subscription.run().await? } else { subscription.run_now().await? };
    // Another server may have told of a change that this one has not heard of yet.
    let ahead = asked.place.as_ref().and_then(|place| shape::offset(&place.offset));
    let now = match (now, ahead) {
        (Some(now), Some((seq, _))) if asked.is_live && i64::try_from(seq).is_ok_and(|seq| seq > now.seq) => {
            subscription.run_now().await?
        }
        (now, _) => now,
    };
    let now = now.filter(|run| run.environment == caller.environment.id).ok_or_else(|| Error::not_found("run"))?;
    may_read(&caller, &now)?;

    let prefix = id.uuid().simple().to_string();
    let new_handle = || shape::new_handle(&prefix, "run");
    let seen = match &asked.place {
        None => None,
        Some(place) => match shape::offset(&place.offset).filter(|_| place.handle.starts_with(&prefix)) {
            // What it says that it has seen was never there: it speaks of another database.
            Some((seq, _)) if i64::try_from(seq).is_ok_and(|seq| seq <= now.seq) => Some(seq as i64),
            _ => return Ok(shape::must_refetch(asked.names, &new_handle())),
        },
    };
    let place = |seq: i64| Place {
        names: asked.names,
        handle: asked.place.as_ref().map_or_else(new_handle, |place| place.handle.clone()),
        offset: format!("{seq}_0"),
    };
    let (kind, changed) = match seen {
        Some(seq) if asked.is_live => (Kind::Live, held(&state, subscription.run_after(seq)).await?),
        Some(seq) => (Kind::Snapshot { is_whole: true }, Some(now).filter(|now| now.seq > seq)),
        None => (Kind::Snapshot { is_whole: true }, Some(now)),
    };
    let mut messages = Messages::without(&asked.skip);
    let mut seq = seen.unwrap_or_default();
    if let Some(run) = changed
        && let Some(whole) = state.hub.whole(&run).await?
    {
        let operation = if seen.is_none() { Operation::Insert } else { Operation::Update };
        messages.row(whole.columns.as_deref().unwrap_or_default(), operation);
        seq = whole.seq;
    }
    messages.up_to_date();
    Ok(messages.answer(&place(seq), kind))
}

/// Follows the runs that have all of these tags.
#[utoipa::path(get, path = "/realtime/v1/runs", tag = "realtime", security(("secretKey" = []), ("publicToken" = [])),
    params(("tags" = String, Query, description = "Comma-separated"),
        ("createdAt" = Option<String>, Query, description = "How long ago they may have been made, such as 1h; at most, and unless said otherwise, 1d"), FeedQuery),
    responses((status = 200, body = Vec<Object>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 409, body = Vec<Object>, description = "Begin again"),
        (status = 429, body = ErrorBody)))]
pub(super) async fn tagged(
    State(state): State<AppState>,
    caller: Caller,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let mut tags = query.list("tags");
    let mut allowed: Vec<(&str, Option<&str>)> = vec![("runs", None), ("tags", None)];
    allowed.extend(tags.iter().map(|tag| ("tags", Some(tag.as_str()))));
    caller.must(&allowed)?;
    let fits = |tag: &String| (1..=MAX_TAG_CHARS).contains(&tag.chars().count()) && !tag.contains('\0');
    if tags.is_empty() || tags.len() > MAX_TAGS || !tags.iter().all(fits) {
        let message = format!("write 1 to {MAX_TAGS} tags of 1 to {MAX_TAG_CHARS} characters, with commas between");
        return Err(Error::query("tags", message));
    }
    tags.sort();
    tags.dedup();
    let back = match query.text("createdAt") {
        None => WINDOW,
        Some(text) => {
            let ms = when::duration_ms(text).ok_or_else(|| Error::query("createdAt", when::DURATION_HINT))?;
            i64::try_from(ms).ok().and_then(TimeDelta::try_milliseconds).unwrap_or(WINDOW).min(WINDOW)
        }
    };
    let made_after = state.now().await? - back;
    several(&state, &caller, Selection::Tags(tags), made_after, Asked::of(&query, &headers, &caller)).await
}

/// Follows the runs of a batch.
#[utoipa::path(get, path = "/realtime/v1/batches/{batchId}", tag = "realtime", security(("secretKey" = []), ("publicToken" = [])),
    params(("batchId" = String, Path), FeedQuery),
    responses((status = 200, body = Vec<Object>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = Vec<Object>, description = "Begin again"),
        (status = 429, body = ErrorBody)))]
pub(super) async fn batch(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, Error> {
    caller.must(&[("batch", Some(&id)), ("runs", None)])?;
    let id: BatchId = id.parse().map_err(|_| Error::not_found("batch"))?;
    let asked = Asked::of(&query, &headers, &caller);
    // Whoever has a handle was told so before.
    if asked.place.is_none() {
        batches::get(&state.store, caller.environment.id, id).await?.ok_or_else(|| Error::not_found("batch"))?;
    }
    several(&state, &caller, Selection::Batch(id), DateTime::UNIX_EPOCH, asked).await
}

/// A feed over several runs. Its handle says of which server and selection it is, and how far back it goes.
async fn several(
    state: &AppState,
    caller: &Caller,
    selection: Selection,
    made_after: DateTime<Utc>,
    asked: Asked,
) -> Result<Response, Error> {
    let environment = caller.environment.id;
    let subscription = state.hub.subscribe(environment, &selection)?;
    let prefix = state.feed_prefix(&format!("{environment} {selection:?}"));
    let new_handle = || shape::new_handle(&prefix, &made_after.timestamp_millis().max(0).to_string());
    let snapshot = Snapshot { state, subscription: &subscription, selection: &selection, made_after, skip: &asked.skip };
    let Some(place) = &asked.place else {
        let place = Place { names: asked.names, handle: new_handle(), offset: String::new() };
        return snapshot.answer(place, subscription.position(), 0).await;
    };
    let known = shape::offset(&place.offset).zip(window(&place.handle, &prefix));
    let Some(((position, above), made_after)) = known.filter(|((position, _), _)| subscription.knows(*position)) else {
        return Ok(shape::must_refetch(asked.names, &new_handle()));
    };
    if above != 0 {
        return Snapshot { made_after, ..snapshot }.answer(place.clone(), position, above).await;
    }
    let (kind, changed) = match asked.is_live {
        true => (Kind::Live, held(state, subscription.runs_after(position, made_after)).await?.transpose()),
        false => {
            let ready = tokio::time::timeout(Duration::ZERO, subscription.runs_after(position, made_after)).await;
            (Kind::Snapshot { is_whole: true }, ready.ok().transpose())
        }
    };
    let Ok(changed) = changed else { return Ok(shape::must_refetch(asked.names, &new_handle())) };
    let News { runs, mut newest } = changed.unwrap_or(News { runs: Vec::new(), newest: position });
    let mut messages = Messages::without(&asked.skip);
    for (position, run) in runs {
        if messages.len() > MAX_ANSWER_BYTES {
            break;
        }
        newest = position;
        if let Some(whole) = state.hub.whole(&run).await? {
            let operation = if whole.seq == 1 { Operation::Insert } else { Operation::Update };
            messages.row(whole.columns.as_deref().unwrap_or_default(), operation);
        }
    }
    messages.up_to_date();
    Ok(messages.answer(&Place { offset: format!("{newest}_0"), ..place.clone() }, kind))
}

/// What is there of a feed over several runs, as it is when somebody begins to follow it.
struct Snapshot<'a> {
    state: &'a AppState,
    subscription: &'a Subscription,
    selection: &'a Selection,
    made_after: DateTime<Utc>,
    skip: &'a [String],
}

impl Snapshot<'_> {
    /// The runs whose ids are higher than `above`, oldest first as pages list them, as many as one answer holds; the last answer says
    /// that it is the last.
    async fn answer(&self, place: Place, mut position: u64, above: u128) -> Result<Response, Error> {
        let Snapshot { state, subscription, selection, made_after, skip } = *self;
        let newest_first = feeds::members(&state.store, subscription.environment(), selection, made_after).await?;
        let members: Vec<_> = newest_first.into_iter().rev().filter(|(run, _)| run.uuid().as_u128() > above).collect();
        let mut messages = Messages::without(skip);
        let mut last = None;
        for some in members.chunks(AT_ONCE) {
            let ids: Vec<RunId> = some.iter().map(|(run, _)| *run).collect();
            let rows = state.hub.whole_runs(&ids).await?;
            let told: Vec<_> = rows.iter().map(|run| (run.id, run.seq)).collect();
            position = subscription.told(position, &told, made_after);
            for run in &rows {
                messages.row(run.columns.as_deref().unwrap_or_default(), Operation::Insert);
            }
            last = ids.last().map(|run| run.uuid().as_u128());
            if messages.len() > MAX_ANSWER_BYTES {
                break;
            }
        }
        position = subscription.told(position, &[], made_after);
        let rest = last.filter(|last| members.last().is_some_and(|(run, _)| run.uuid().as_u128() != *last));
        if rest.is_none() {
            messages.up_to_date();
        }
        let place = Place { offset: format!("{position}_{}", rest.unwrap_or(0)), ..place };
        Ok(messages.answer(&place, Kind::Snapshot { is_whole: rest.is_none() }))
    }
}

/// How far back the feed of a handle goes.
fn window(handle: &str, prefix: &str) -> Option<DateTime<Utc>> {
    let (ms, _) = handle.strip_prefix(prefix)?.strip_prefix('-')?.split_once('-')?;
    DateTime::from_timestamp_millis(ms.parse().ok()?)
}

/// Waits, in one of the server's places for those who do, as long as requests are held. None: nothing came.
async fn held<T>(state: &AppState, coming: impl Future<Output = T>) -> Result<Option<T>, Error> {
    let _place = state.hub.place()?;
    let spread = rand::rng().random_range(-HOLD_SPREAD..HOLD_SPREAD);
    let until = Instant::now() + state.hold.unwrap_or(HOLD).mul_f64(1.0 + spread);
    tokio::select! {
        biased;
        came = coming => Ok(Some(came)),
        () = state.hub.closing().cancelled() => Err(Error::Unavailable("The server is being stopped; try again")),
        () = tokio::time::sleep_until(until) => Ok(None),
    }
}

/// Source: facts 2.3.
fn may_read(caller: &Caller, run: &Shown) -> Result<(), Error> {
    let (id, batch) = (run.id.to_string(), run.batch.map(|batch| batch.to_string()));
    let mut identities = vec![("runs", Some(id.as_str())), ("tasks", Some(run.task.as_str()))];
    identities.extend(run.tags.iter().map(|tag| ("tags", Some(tag.as_str()))));
    identities.extend(batch.iter().map(|batch| ("batch", Some(batch.as_str()))));
    caller.must(&identities)
}

impl From<Full> for Error {
    fn from(_: Full) -> Error {
        Error::TooManySubscribers
    }
}
