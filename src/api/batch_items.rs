//! The items of a batch: a stream of JSON lines of any length, read line by line and stored some at a time, so that it is never whole in
//! memory. An item that breaks a rule becomes a failed run and does not stop the others. Source: facts 7.2, B2, B4, B5.

use std::cell::Cell;

use axum::{
    Json,
    body::{Body, BodyDataStream},
    extract::{Path, State},
    http::{HeaderMap, header},
};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    AppState, Error,
    auth::Caller,
    batches::{self, one_time_key},
    body,
    error::ErrorBody,
    tasks::{self, TriggerBody, TriggerOptions},
};
use crate::{
    engine::{self, batch::Filled},
    model::{
        batch::{Draft, Item, MAX_ITEMS, Refusal},
        error::ErrorCode,
        id::BatchId,
        payload::MAX_PAYLOAD_BYTES,
    },
    store, wall_clock,
};

/// The content type of the stream.
const NDJSON: &str = "application/x-ndjson";
/// Longest line. Source: facts 4.5.
const MAX_LINE_BYTES: usize = MAX_PAYLOAD_BYTES;
/// Most bytes of a line that is too long, or of a stream that is refused, that are read and thrown away.
const PATIENCE_BYTES: u64 = 512 << 20;
/// Most items of one transaction, and bytes of lines after which there are no more.
const STORED_AT_ONCE: (usize, usize) = (100, 4 << 20);
/// Longest id of a task, in characters.
const MAX_TASK_CHARS: usize = 128;
/// What would be right instead of a wrong one.
pub(super) const TASK_HINT: &str = "write a task id of 1 to 128 characters, none of them NUL";

/// What became of the items.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ItemsResponse {
    /// `batch_…`
    #[schema(value_type = String)]
    id: BatchId,
    /// How many were new.
    items_accepted: u32,
    /// How many it had already.
    items_deduplicated: u32,
    /// All its items are there.
    sealed: bool,
    /// How many there are, if some are still to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    enqueued_count: Option<u32>,
    /// How many there will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_count: Option<u32>,
}

/// Adds items to a batch, a JSON object in each line: `{"index":0,"task":"…","payload":…,"options":{…}}`, with the options of a
/// trigger. Items that it has already stay as they are, so everything may be sent again. The last one makes the batch begin.
#[utoipa::path(post, path = "/api/v3/batches/{batchId}/items", tag = "batches",
    security(("secretKey" = []), ("publicToken" = [])),
    params(("batchId" = String, Path)),
    request_body(content = String, content_type = "application/x-ndjson", description = "At most 3 MiB a line"),
    responses((status = 200, body = ItemsResponse), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn add(
    State(state): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ItemsResponse>, Error> {
    let may_fill = caller.must("write", &[("batch", Some(&id))]).is_ok();
    if !may_fill {
        caller.must_somehow("batchTrigger")?;
    }
    if !headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.starts_with(NDJSON)) {
        return Err(Error::UnsupportedType(NDJSON));
    }
    let batch = batches::parse(&id)?;
    check_one_time_use(&state, &caller, batch).await?;

    let mut lines = Lines::of(body);
    let filled = match receive(&state, &caller, batch, may_fill, &mut lines).await {
        Ok(filled) => filled,
        Err(error) => {
            // So that a client which writes before it reads gets to see the refusal.
            lines.drain().await;
            return Err(error);
        }
    };
    if filled.sealed {
        batches::make(&state.store, &caller, batch).await;
    }
    Ok(Json(ItemsResponse {
        id: batch,
        items_accepted: filled.accepted,
        items_deduplicated: filled.deduplicated,
        sealed: filled.sealed,
        enqueued_count: (!filled.sealed).then_some(filled.count),
        expected_count: (!filled.sealed).then_some(filled.run_count),
    }))
}

/// A token that is good for one call made one batch, and fills no other.
async fn check_one_time_use(state: &AppState, caller: &Caller, batch: BatchId) -> Result<(), Error> {
    let Some(key) = one_time_key(caller) else { return Ok(()) };
    let made_by = store::batches::request_of(&state.store, caller.environment.id, batch).await?;
    match made_by.ok_or_else(batches::not_found)? {
        Some(made_by) if made_by == key => Ok(()),
        _ => Err(Error::Rule("Cannot fill this batch with a one-time use token that was used for something else.".into())),
    }
}

/// Reads and stores all lines.
async fn receive(state: &AppState, caller: &Caller, batch: BatchId, may_fill: bool, lines: &mut Lines) -> Result<Filled, Error> {
    let store = async |items: Vec<Item>| engine::batch::fill(&state.store, caller.environment.id, batch, items).await;
    // Whether it is there and takes items, before any are read.
    let mut total = store(Vec::new()).await?;
    let (mut items, mut bytes, mut count) = (Vec::new(), 0, 0);
    let now = wall_clock::now();
    while let Some(line) = lines.next().await? {
        count += 1;
        if count > MAX_ITEMS {
            return Err(Error::Rule(format!("one request has at most {MAX_ITEMS} items")));
        }
        bytes += line.bytes.len();
        let item = read_item(line, count, now)?;
        if !may_fill {
            caller.must("batchTrigger", &[("tasks", Some(&item.task))])?;
        }
        if item.index >= total.run_count {
            let (index, most) = (item.index, total.run_count);
            return Err(Error::Rule(format!(
                "line {count}: index {index} is no place of this batch, which has {most} from 0 on"
            )));
        }
        items.push(item);
        if items.len() >= STORED_AT_ONCE.0 || bytes >= STORED_AT_ONCE.1 {
            total = total.and(store(std::mem::take(&mut items)).await?);
            bytes = 0;
        }
    }
    Ok(if items.is_empty() { total } else { total.and(store(items).await?) })
}

/// A line as it is read.
#[derive(Deserialize)]
struct ItemLine {
    index: u32,
    task: String,
    #[serde(default, deserialize_with = "body::written")]
    payload: Option<Box<RawValue>>,
    #[serde(default)]
    options: Option<Box<RawValue>>,
}

fn read_item(line: Line, number: usize, now: DateTime<Utc>) -> Result<Item, Error> {
    let line = match line {
        Line { is_whole: true, bytes } => serde_json::from_slice::<ItemLine>(&bytes).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Error::Rule(format!("line {number}: {error}")),
            _ => Error::body("", format!("line {number} is not JSON: {error}")),
        })?,
        Line { is_whole: false, bytes } => return too_long(&bytes, number),
    };
    if !is_task(&line.task) {
        return Err(Error::Rule(format!("line {number}: task: {TASK_HINT}")));
    }
    Ok(item(line.index, line.task, line.payload, line.options.as_deref(), now))
}

/// Whether a run can have this task.
pub(super) fn is_task(task: &str) -> bool {
    (1..=MAX_TASK_CHARS).contains(&task.chars().count()) && !task.contains('\0')
}

/// An item, with the run that it shall be or what is wrong with it.
pub(super) fn item(
    index: u32,
    task: String,
    payload: Option<Box<RawValue>>,
    options: Option<&RawValue>,
    now: DateTime<Utc>,
) -> Item {
    let made = options.map(|options| body::parse::<Option<TriggerOptions>>(options.get().as_bytes())).transpose();
    let made = made.and_then(|options| {
        let body = TriggerBody { payload, options: options.flatten() };
        // Whose children they are is the batch's to say.
        tasks::new_run(task.clone(), body, &HeaderMap::new(), now)
    });
    let draft = match made {
        Ok(new) => Draft::Run(Box::new(new)),
        Err(error) => Draft::Refused(Refusal { code: ErrorCode::BatchItemCouldNotTrigger, message: error.describe() }),
    };
    Item { index, task, draft }
}

/// The item of a line that is too long, of which the beginning is left: a failed run, if that says which.
fn too_long(beginning: &[u8], number: usize) -> Result<Item, Error> {
    let (index, task) = beginning_of(beginning);
    match (index, task) {
        (Some(index), Some(task)) if is_task(&task) => {
            let message = format!("the item is larger than {MAX_LINE_BYTES} bytes");
            Ok(Item { index, task, draft: Draft::Refused(Refusal { code: ErrorCode::PayloadTooLarge, message }) })
        }
        _ => Err(Error::Rule(format!(
            "line {number} is larger than {MAX_LINE_BYTES} bytes, and does not say which item it is before that: write index and \
             task first"
        ))),
    }
}

/// Index and task of an item, as far as its beginning says them.
fn beginning_of(bytes: &[u8]) -> (Option<u32>, Option<String>) {
    struct Beginning<'a>(&'a Cell<Option<u32>>, &'a Cell<Option<String>>);

    impl<'de> Visitor<'de> for Beginning<'_> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an item")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                match &*key {
                    "index" => self.0.set(Some(map.next_value()?)),
                    "task" => self.1.set(Some(map.next_value()?)),
                    _ => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(())
        }
    }

    let (index, task) = (Cell::default(), Cell::default());
    // It ends where the line was cut off, with an error; what was seen before that is what there is.
    let _ = serde_json::Deserializer::from_slice(bytes).deserialize_map(Beginning(&index, &task));
    (index.take(), task.take())
}

/// A line, without its end.
struct Line {
    bytes: Vec<u8>,
    /// It was too long otherwise, and this is its beginning.
    is_whole: bool,
}

/// Takes a body apart into lines, holding no more than one and what came with its end.
struct Lines {
    chunks: BodyDataStream,
    /// What came and was not taken.
    rest: bytes::Bytes,
}

impl Lines {
    fn of(body: Body) -> Lines {
        Lines { chunks: body.into_data_stream(), rest: bytes::Bytes::new() }
    }

    /// The next line that is not empty; none at the end.
    async fn next(&mut self) -> Result<Option<Line>, Error> {
        let (mut bytes, mut length) = (Vec::new(), 0u64);
        loop {
            let end = self.rest.iter().position(|byte| *byte == b'\n');
            let piece = self.rest.split_to(end.unwrap_or(self.rest.len()));
            length += piece.len() as u64;
            let room = MAX_LINE_BYTES.saturating_sub(bytes.len());
            bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            if length > PATIENCE_BYTES {
                return Err(Error::TooLarge { what: "A line", limit: MAX_LINE_BYTES as u64, unit: "bytes" });
            }
            let is_over = match end {
                Some(_) => {
                    let _newline = self.rest.split_to(1);
                    true
                }
                None => !self.refill().await?,
            };
            if is_over && !bytes.trim_ascii().is_empty() {
                return Ok(Some(Line { is_whole: length <= MAX_LINE_BYTES as u64, bytes }));
            }
            if is_over && end.is_none() {
                return Ok(None);
            }
            if is_over {
                (bytes, length) = (Vec::new(), 0);
            }
        }
    }

    /// False: there is no more.
    async fn refill(&mut self) -> Result<bool, Error> {
        match self.chunks.next().await {
            Some(Ok(chunk)) => {
                self.rest = chunk;
                Ok(true)
            }
            Some(Err(_)) => Err(Error::body("", "the body broke off")),
            None => Ok(false),
        }
    }

    /// Throws away what is left, as far as there is patience for it.
    async fn drain(&mut self) {
        let mut left = PATIENCE_BYTES;
        while let Some(Ok(chunk)) = self.chunks.next().await {
            left = left.saturating_sub(chunk.len() as u64);
            if left == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(chunks: &[&[u8]]) -> Vec<(usize, bool)> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(chunk))).collect();
        let mut lines = Lines::of(Body::from_stream(futures_util::stream::iter(chunks)));
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            seen.push((line.bytes.len(), line.is_whole));
        }
        seen
    }

    #[tokio::test]
    async fn lines_are_found_however_the_body_is_cut() {
        assert_eq!(lines(&[b"a\nbc\n"]).await, [(1, true), (2, true)]);
        assert_eq!(lines(&[b"a\nb", b"", b"c", b"\n\n \n\nd"]).await, [(1, true), (2, true), (1, true)]);
        assert_eq!(lines(&[]).await, []);
        assert_eq!(lines(&[b"\n", b"\n"]).await, []);
    }

    #[tokio::test]
    async fn of_a_line_that_is_too_long_only_the_beginning_is_kept() {
        let full = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(lines(&[&full, b"\n"]).await, [(MAX_LINE_BYTES, true)]);
        assert_eq!(lines(&[&full, b"x", &full, b"\nnext"]).await, [(MAX_LINE_BYTES, false), (4, true)]);
    }

    #[test]
    fn the_beginning_of_an_item_says_which_it_is() {
        let begins = |text: &str| beginning_of(text.as_bytes());
        assert_eq!(begins(r#"{"index":3,"task":"a\"b","payload":{"x":"yyy"#), (Some(3), Some("a\"b".into())));
        assert_eq!(begins(r#"{"options":{"tags":["t"]},"index":3,"payload":"yy"#), (Some(3), None));
        assert_eq!(begins(r#"{"payload":"yyy"#), (None, None));
        assert_eq!(begins("[1"), (None, None));
        assert_eq!(begins(r#"{"index":-1,"task":"a""#), (None, None));
    }
}
