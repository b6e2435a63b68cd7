//! `dormouse:task/streams`: data out of a run, as it is made.

use serde_json::value::RawValue;

use super::{
    check,
    wit::{streams, types},
};
use crate::{
    host::{HostError, HostState},
    model::stream::{MAX_APPEND_BYTES, MAX_CHUNK_BYTES, MAX_CHUNKS, StreamTarget},
};

/// Most chunks of one read.
const MAX_READ: u32 = 10_000;

impl streams::Host for HostState {
    async fn append(&mut self, target: streams::Target, key: String, chunks: Vec<String>) -> Result<(), HostError> {
        let caller = self.acting()?.caller.clone();
        let (target, key) = (of(target)?, check::stream("key", key)?);
        if chunks.is_empty() {
            return Ok(());
        }
        caller.append_chunks(target, key, checked(chunks)?).await
    }

    async fn read(
        &mut self,
        target: streams::Target,
        key: String,
        start: Option<u64>,
        max: u32,
        timeout: types::DurationMs,
    ) -> Result<streams::Page, HostError> {
        let caller = self.acting()?.caller.clone();
        let (target, key, timeout) = (of(target)?, check::stream("key", key)?, check::timeout("timeout", timeout)?);
        if max == 0 {
            return Err(HostError::invalid(format!("max is 0; it takes 1 to {MAX_READ}")));
        }
        let page = caller.read_chunks(target, key, start, max.min(MAX_READ), timeout).await?;
        let chunk = |chunk: crate::model::stream::Chunk| streams::Chunk { index: chunk.index, data: chunk.data };
        Ok(streams::Page { chunks: page.chunks.into_iter().map(chunk).collect(), next_index: page.next, ended: page.is_ended })
    }
}

fn of(target: streams::Target) -> Result<StreamTarget, HostError> {
    Ok(match target {
        streams::Target::ThisRun => StreamTarget::This,
        streams::Target::Parent => StreamTarget::Parent,
        streams::Target::Root => StreamTarget::Root,
        streams::Target::Run(run) => StreamTarget::Run(check::run("target", &run)?),
    })
}

fn checked(chunks: Vec<String>) -> Result<Vec<String>, HostError> {
    if chunks.len() > MAX_CHUNKS {
        let count = chunks.len();
        return Err(HostError::too_large(format!(
            "chunks has {count} elements; the most is {MAX_CHUNKS}: append in several calls"
        )));
    }
    for (place, chunk) in chunks.iter().enumerate() {
        let length = chunk.len();
        if length >= MAX_CHUNK_BYTES {
            return Err(HostError::too_large(format!(
                "chunks[{place}] has {length} bytes; it takes less than {MAX_CHUNK_BYTES}: split it"
            )));
        }
        serde_json::from_str::<&RawValue>(chunk)
            .map_err(|error| HostError::invalid(format!("chunks[{place}] is not JSON text: {error}")))?;
    }
    let bytes: usize = chunks.iter().map(String::len).sum();
    if bytes > MAX_APPEND_BYTES {
        return Err(HostError::too_large(format!(
            "chunks has {bytes} bytes; the most is {MAX_APPEND_BYTES}: append in several calls"
        )));
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::host::{
        Begin, HostErrorCode,
        testing::{Asked, Recorder, state},
    };

    #[tokio::test]
    async fn chunks_are_json_within_their_limits_and_a_wrong_one_is_named_by_its_place() {
        let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
        let mut state = state(Begin::Fresh, scratch.path(), caller.clone());
        let append = async |state: &mut HostState, key: &str, chunks: &[&str]| {
            let chunks = chunks.iter().map(ToString::to_string).collect();
            streams::Host::append(state, streams::Target::Parent, key.into(), chunks).await
        };
        append(&mut state, "log", &[]).await.unwrap();
        append(&mut state, "log", &["1", "\"two\""]).await.unwrap();
        assert_eq!(caller.asked(), [Asked::Append(StreamTarget::Parent, "log".into(), vec!["1".into(), "\"two\"".into()])]);
        let error = append(&mut state, "log", &["1", "{"]).await.unwrap_err();
        assert!(error.message.starts_with("chunks[1] is not JSON"), "{error}");
        assert_eq!(append(&mut state, "", &["1"]).await.unwrap_err().code, HostErrorCode::Invalid);
        let large = format!("\"{}\"", "x".repeat(MAX_CHUNK_BYTES));
        assert_eq!(append(&mut state, "log", &[&large]).await.unwrap_err().code, HostErrorCode::TooLarge);
        let many = vec!["1"; MAX_CHUNKS + 1];
        assert_eq!(append(&mut state, "log", &many).await.unwrap_err().code, HostErrorCode::TooLarge);
        let run = streams::Target::Run("run_1".into());
        assert_eq!(
            streams::Host::append(&mut state, run, "log".into(), vec!["1".into()]).await.unwrap_err().code,
            HostErrorCode::Invalid
        );
        assert_eq!(caller.asked().len(), 1);
    }

    #[tokio::test]
    async fn a_page_says_where_to_go_on() {
        let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
        let mut state = state(Begin::Fresh, scratch.path(), caller.clone());
        let page = streams::Host::read(&mut state, streams::Target::ThisRun, "log".into(), Some(7), 5, 250).await.unwrap();
        assert!(page.chunks[0].index == 7 && page.chunks[0].data == "[1]" && page.next_index == 8 && page.ended);
        assert_eq!(caller.asked(), [Asked::Read(StreamTarget::This, "log".into(), Some(7), 5, Duration::from_millis(250))]);
        assert!(streams::Host::read(&mut state, streams::Target::ThisRun, "log".into(), None, 0, 0).await.is_err());
    }
}
