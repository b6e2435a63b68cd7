//! What a run did, as a tree of spans. Source: facts 7.3, P2-P5.

use axum::{
    Json,
    extract::{Path, State},
};
use chrono::{DateTime, Utc};

use super::{
    AppState, Error,
    auth::Caller,
    error::ErrorBody,
    pagination::Parameters,
    runs::{may_read, of_environment},
    span_object::{SpanDetail, TraceAnswer, TracePage, TraceTree},
};
use crate::{
    model::{
        environment::Environment,
        id::RunId,
        trace::{MAX_SPANS, Span, SpanId, Trace},
    },
    store::traces::{self, Below, Events, Extent},
};

/// Shows a run's part of its trace: its own span and all below it. Without `page[size]` as a tree, with the first lines that were
/// logged; with it flat, in pages. At most 10,000 spans of 1,000 runs, and the answer says whether that is all.
#[utoipa::path(get, path = "/api/v1/runs/{runId}/trace", tag = "runs", security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path),
        ("page[size]" = Option<u32>, Query, description = "1 to 10000: a page of so many spans instead of the tree"),
        ("page[after]" = Option<String>, Query)),
    responses((status = 200, body = TraceAnswer), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn trace(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    query: Parameters,
) -> Result<Json<TraceAnswer>, Error> {
    let run = of_environment(&state, &caller.environment, &id).await?;
    may_read(&caller, &run)?;
    let page = page(&query)?;
    let events = if page.is_some() { Events::None } else { Events::Some };
    let trace = read(&state, &caller.environment, run.id, Extent { below: Below::All, events, whole: None }).await?;
    Ok(Json(match page {
        Some(page) => TraceAnswer::Page(page.of(&trace)),
        None => TraceAnswer::Tree(Box::new(TraceTree::of(trace)?)),
    }))
}

/// Shows one span of a run's trace, with the lines that were logged in it.
#[utoipa::path(get, path = "/api/v1/runs/{runId}/spans/{spanId}", tag = "runs",
    security(("secretKey" = []), ("publicToken" = [])),
    params(("runId" = String, Path), ("spanId" = String, Path, description = "16 hexadecimal digits")),
    responses((status = 200, body = SpanDetail), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(super) async fn span(
    State(state): State<AppState>,
    caller: Caller,
    Path((id, span)): Path<(String, String)>,
) -> Result<Json<SpanDetail>, Error> {
    let run = of_environment(&state, &caller.environment, &id).await?;
    may_read(&caller, &run)?;
    let not_found = || Error::not_found("span");
    let span: SpanId = span.parse().map_err(|_| not_found())?;
    // Most are of the run that is named.
    for below in [Below::None, Below::All] {
        let trace = read(&state, &caller.environment, run.id, Extent { below, events: Events::Some, whole: Some(span) }).await?;
        if let Some(found) = trace.span(span) {
            return Ok(Json(SpanDetail::of(found.clone(), trace.at)));
        }
    }
    Err(not_found())
}

async fn read(state: &AppState, environment: &Environment, run: RunId, extent: Extent) -> Result<Trace, Error> {
    let parts = traces::of_run(&state.store, environment.id, run, extent).await?;
    Trace::of(parts).ok_or_else(|| Error::not_found("run"))
}

/// Which spans of a trace are asked for.
struct Page {
    size: usize,
    /// The last one that was read.
    after: Option<(DateTime<Utc>, SpanId)>,
}

/// None: all, as a tree.
fn page(query: &Parameters) -> Result<Option<Page>, Error> {
    let after = query.text("page[after]").map(|text| {
        let parts = text
            .split_once('-')
            .and_then(|(micros, id)| Some((DateTime::from_timestamp_micros(micros.parse().ok()?)?, id.parse().ok()?)));
        parts.ok_or_else(|| Error::query("page[after]", "take it from the last page"))
    });
    let after = after.transpose()?;
    let Some(size) = query.text("page[size]") else {
        return Ok(after.map(|after| Page { size: MAX_SPANS, after: Some(after) }));
    };
    let size = size.parse().ok().filter(|size| (1..=MAX_SPANS).contains(size));
    let size = size.ok_or_else(|| Error::query("page[size]", format!("write a number from 1 to {MAX_SPANS}")))?;
    Ok(Some(Page { size, after }))
}

impl Page {
    fn of(self, trace: &Trace) -> TracePage {
        let place = |span: &Span| (micros(span.begin), span.id);
        let mut spans: Vec<&Span> = trace.spans.iter().collect();
        spans.sort_by_key(|span| place(span));
        let after = self.after.map(|(at, id)| (micros(at), id));
        let mut rest = spans.into_iter().filter(|span| after.is_none_or(|after| place(span) > after));
        let shown: Vec<&Span> = rest.by_ref().take(self.size).collect();
        let next = shown.last().filter(|_| rest.next().is_some()).map(|last| format!("{}-{}", micros(last.begin), last.id));
        TracePage::of(&shown, next, trace)
    }
}

fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}
