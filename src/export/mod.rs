//! Sends the traces of runs that are over to a collector, by OTLP over HTTP with protobuf.
//!
//! The runs' own rows are the queue, and a cursor in the database says how far it is worked off: nothing is written for a run to be
//! exported, and none is forgotten, whoever is killed. The cursor moves once the collector has taken the spans, so they may be sent
//! twice, with the same ids. One process at a time exports; when it is gone, another one goes on. Source: facts P3.

mod encode;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context as _, bail};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    trace::v1::ResourceSpans,
};
use prost::Message as _;
use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    config,
    model::{id::RunId, trace::Trace},
    store::{
        self, Store,
        trace_exports::{self, Place, Sent},
        traces,
    },
};

/// Most runs of a request.
const MAX_RUNS: usize = 200;
/// Bytes from which on a request takes no further run.
const ENOUGH_BYTES: usize = 2 << 20;
/// How long a process has the export without a word. A request takes less.
const HOLD_FOR: Duration = Duration::from_secs(30);
/// How long a collector may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// Pause when there is nothing to send, or somebody else sends it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pauses after a failure: the first, and the longest.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Longest pause that a collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Most bytes of a collector's answer that are looked at.
const MAX_ANSWER: usize = 64 << 10;

/// Sends traces to one collector.
pub struct Exporter {
    store: Store,
    http: reqwest::Client,
    url: reqwest::Url,
    holder: Uuid,
    /// Runs that the next request takes at most: fewer after one that was too much.
    most: usize,
    /// Pause after the last failure; none: it works.
    failing: Option<Duration>,
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// So many runs have been dealt with; there may be more.
    Sent(usize),
    /// There is nothing to send, or somebody else sends it.
    Idle,
    /// The collector does not take it now.
    Failed {
        /// When to try again.
        again_in: Duration,
    },
}

/// What a collector made of a request.
enum Answer {
    /// It took it, but for so many spans.
    Taken { refused: u64 },
    /// It will never take it.
    Refused(String),
    /// Not now.
    NotNow { why: String, pause: Option<Duration> },
}

impl Exporter {
    /// The exporter that the settings ask for, if they do.
    ///
    /// # Errors
    /// If the address or a header is malformed.
    pub fn of(config: &config::Export, store: &Store) -> anyhow::Result<Option<Exporter>> {
        let Some(endpoint) = config.endpoint.as_deref().filter(|endpoint| !endpoint.trim().is_empty()) else { return Ok(None) };
        let url = address(endpoint).with_context(|| format!("--otlp-endpoint {endpoint:?}"))?;
        let mut headers = HeaderMap::new();
        for header in config.headers.iter().filter(|header| !header.expose_secret().trim().is_empty()) {
            let (name, value) = header.expose_secret().split_once('=').context("--otlp-headers: write name=value")?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).context("--otlp-headers: a name is malformed")?;
            // Whatever is wrong with it, a value is a secret.
            let value =
                HeaderValue::from_str(value.trim()).map_err(|_| anyhow::anyhow!("--otlp-headers: a value is malformed"))?;
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("dormouse/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(ANSWERS_WITHIN)
            .timeout(ANSWERS_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("could not set up HTTP for the export of traces")?;
        Ok(Some(Exporter { store: store.clone(), http, url, holder: Uuid::now_v7(), most: MAX_RUNS, failing: None }))
    }

    /// Exports until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(looked) = stop.run_until_cancelled(self.tick()).await {
            let pause = match looked {
                Ok(Looked::Sent(_)) => continue,
                Ok(Looked::Idle) => LOOK_AGAIN,
                Ok(Looked::Failed { again_in }) => again_in,
                Err(error) => {
                    error!(error = format!("{error:#}"), "traces cannot be read for their export; trying again");
                    TRY_AGAIN.1.min(LOOK_AGAIN * 5)
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        // Else another process would wait until this one is not heard of any more.
        let let_go = async { trace_exports::let_go(&mut *self.store.read().await?, self.holder).await };
        if let Err(error) = store::in_time(let_go).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the export of traces could not be given up");
        }
    }

    /// Sends what comes next.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn tick(&mut self) -> anyhow::Result<Looked> {
        let holder = self.holder;
        let taken = self.store.tx(move |tx| Box::pin(async move { trace_exports::take(tx, holder, HOLD_FOR).await })).await;
        let Some(place) = taken? else { return Ok(Looked::Idle) };
        let next = store::in_time(trace_exports::after(&self.store, place, self.most as i64)).await?;
        let Some(batch) = self.batch(&next).await? else { return Ok(Looked::Idle) };
        let Batch { request, last, runs, spans } = batch;
        let refused = match self.send(request).await {
            Answer::Taken { refused } => refused,
            Answer::Refused(_) if runs > 1 => {
                // One of them is at fault, or they are too much together.
                self.most = runs / 2;
                return Ok(Looked::Sent(0));
            }
            // Whoever takes not even nothing is no collector, or not at this address.
            Answer::Refused(why) if !matches!(self.post(nothing()).await, Answer::Taken { .. }) => {
                return Ok(self.failed(&format!("{why}, also of an empty request"), None));
            }
            Answer::Refused(why) => {
                error!(run.id = %RunId::from_uuid(last.id), why, spans, "the collector refuses a run's trace for good; it is left out");
                spans
            }
            Answer::NotNow { why, pause } => return Ok(self.failed(&why, pause)),
        };
        if self.failing.take().is_some() {
            info!("the collector takes traces again");
        }
        self.most = (self.most * 2).clamp(1, MAX_RUNS);
        let sent = Sent { runs: runs as u64, spans, refused };
        let ours = self.store.tx(move |tx| Box::pin(async move { trace_exports::reach(tx, holder, last, sent).await })).await;
        let ours: bool = ours.map_err(|error: store::StoreError| error)?;
        Ok(if ours { Looked::Sent(runs) } else { Looked::Idle })
    }

    /// As many of these runs as a request takes. None: there are none.
    async fn batch(&self, next: &[(RunId, Place)]) -> anyhow::Result<Option<Batch>> {
        let Some((_, end)) = next.last() else { return Ok(None) };
        let ids: Vec<_> = next.iter().map(|(run, _)| *run).collect();
        let read = async { traces::of_runs(&mut *self.store.read().await?, &ids).await };
        let mut batch = Batch { request: ExportTraceServiceRequest::default(), last: *end, runs: next.len(), spans: 0 };
        let (mut bytes, mut taken) = (0, 0);
        for parts in store::in_time(read).await? {
            let Some(environment) = parts.members.first().map(|member| member.environment.clone()) else { continue };
            let Some(trace) = Trace::of(parts) else { continue };
            if trace.is_cut {
                warn!(trace.id = %trace.id, spans = trace.spans.len(), "a run has more spans than are exported");
            }
            let run = trace.spans[0].run;
            batch.spans += trace.spans.len() as u64;
            bytes += encode::add(&mut batch.request, &environment, &trace);
            taken += 1;
            let place = next.iter().position(|(id, _)| *id == run);
            if let Some(place) = place.filter(|place| bytes >= ENOUGH_BYTES && place + 1 < next.len()) {
                (batch.last, batch.runs) = (next[place].1, taken);
                break;
            }
        }
        Ok(Some(batch))
    }

    async fn send(&self, request: ExportTraceServiceRequest) -> Answer {
        if request.resource_spans.is_empty() {
            // They have been deleted meanwhile.
            return Answer::Taken { refused: 0 };
        }
        self.post(request.encode_to_vec()).await
    }

    async fn post(&self, body: Vec<u8>) -> Answer {
        let answer = match self.http.post(self.url.clone()).body(body).send().await {
            Ok(answer) => answer,
            // Without its address, in which there may be a secret.
            Err(error) => return Answer::NotNow { why: format!("{:#}", anyhow::Error::from(error.without_url())), pause: None },
        };
        let status = answer.status();
        let pause = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let pause = pause.map(Duration::from_secs).map(|pause| pause.min(LONGEST_PAUSE));
        let body = beginning(answer).await;
        match status {
            status if status.is_success() => {
                let partial = ExportTraceServiceResponse::decode(body.as_slice()).ok().and_then(|answer| answer.partial_success);
                let refused = partial.as_ref().map_or(0, |partial| partial.rejected_spans.max(0).unsigned_abs());
                if let Some(partial) = partial.filter(|_| refused > 0) {
                    warn!(refused, why = partial.error_message, "the collector has not taken all spans");
                }
                Answer::Taken { refused }
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Answer::Refused(status.to_string())
            }
            // A wrong key or address, too: what is put right later has lost nothing.
            status => Answer::NotNow { why: status.to_string(), pause },
        }
    }

    /// Logged once, not with every try.
    fn failed(&mut self, why: &str, pause: Option<Duration>) -> Looked {
        if self.failing.is_none() {
            warn!(url = %self.url.host_str().unwrap_or_default(), why, "the collector does not take traces; they are kept, and sent later");
        }
        let next = self.failing.map_or(TRY_AGAIN.0, |last| (last * 2).min(TRY_AGAIN.1));
        self.failing = Some(next);
        Looked::Failed { again_in: pause.unwrap_or(next.mul_f64(rand::random_range(0.8..1.2))) }
    }
}

/// A request without spans, but not without a body: that might go without its length.
fn nothing() -> Vec<u8> {
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans::default()] }.encode_to_vec()
}

/// What one request sends.
struct Batch {
    request: ExportTraceServiceRequest,
    /// Up to where that is.
    last: Place,
    runs: usize,
    spans: u64,
}

/// Where traces go: the path of OTLP is added unless it is there. Source: the specification of OTLP's environment variables.
fn address(endpoint: &str) -> anyhow::Result<reqwest::Url> {
    let mut url: reqwest::Url = endpoint.trim().parse().context("write a URL such as http://collector:4318")?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("write a URL that begins with http:// or https://");
    }
    if !url.path().ends_with("/v1/traces") {
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

async fn beginning(mut answer: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    body
}
