//! `dormouse:task/input`: data into a run.

use super::{
    check,
    convert::input_value,
    wit::{input, types},
};
use crate::{
    host::{HostError, HostState},
    model::stream::MAX_INPUT_BYTES,
};

/// Most streams of one call.
const MAX_CURSORS: usize = 100;
/// Most values of one call.
const MAX_VALUES: u32 = 1000;

impl input::Host for HostState {
    async fn receive(
        &mut self,
        cursors: Vec<types::InputCursor>,
        max: u32,
        timeout: types::DurationMs,
    ) -> Result<Vec<types::InputValue>, HostError> {
        let caller = self.acting()?.caller.clone();
        if cursors.is_empty() || cursors.len() > MAX_CURSORS {
            let count = cursors.len();
            return Err(HostError::invalid(format!("cursors has {count} elements; it takes 1 to {MAX_CURSORS}")));
        }
        if max == 0 {
            return Err(HostError::invalid(format!("max is 0; it takes 1 to {MAX_VALUES}")));
        }
        let timeout = check::timeout("timeout", timeout)?;
        let cursors = cursors.into_iter().enumerate();
        let cursors = cursors.map(|(place, cursor)| check::cursor(&format!("cursors[{place}]"), cursor));
        let cursors = cursors.collect::<Result<Vec<_>, _>>()?;
        let values = caller.receive_inputs(cursors, max.min(MAX_VALUES), timeout).await?;
        Ok(values.into_iter().map(input_value).collect())
    }

    async fn send(&mut self, run: String, stream_id: String, value: types::Packet) -> Result<(), HostError> {
        let caller = self.acting()?.caller.clone();
        let (run, stream) = (check::run("run", &run)?, check::stream("stream-id", stream_id)?);
        let value = check::packet("value", value)?;
        if value.data.len() > MAX_INPUT_BYTES {
            let length = value.data.len();
            return Err(HostError::too_large(format!("value has {length} bytes; it takes {MAX_INPUT_BYTES}: send a reference")));
        }
        caller.send_input(run, stream, value).await
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use serde_json::json;

    use super::*;
    use crate::{
        host::{
            Begin, HostErrorCode,
            testing::{Asked, Recorder, state},
        },
        model::{id::RunId, payload::Packet, stream::InputCursor},
    };

    #[tokio::test]
    async fn values_are_received_after_cursors_and_sent_within_their_limits() {
        let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
        let mut state = state(Begin::Fresh, scratch.path(), caller.clone());
        let cursor = |stream: &str| types::InputCursor { stream_id: stream.into(), after: Some(2) };
        let values = input::Host::receive(&mut state, vec![cursor("chat")], 10, 0).await.unwrap();
        assert!(values[0].stream_id == "chat" && values[0].seq == 3);
        let run = RunId::new();
        input::Host::send(&mut state, run.to_string(), "chat".into(), Packet::json(&json!(1)).into()).await.unwrap();
        let cursor_of = InputCursor { stream: "chat".into(), after: Some(2) };
        let asked =
            [Asked::Receive(vec![cursor_of], 10, Duration::ZERO), Asked::Send(run, "chat".into(), Packet::json(&json!(1)))];
        assert_eq!(caller.asked(), asked);
        assert!(input::Host::receive(&mut state, vec![], 1, 0).await.is_err());
        assert!(input::Host::receive(&mut state, vec![cursor("chat")], 0, 0).await.is_err());
        let wrong = input::Host::receive(&mut state, vec![cursor("a"), cursor("")], 1, 0).await.unwrap_err();
        assert!(wrong.message.starts_with("cursors[1].stream-id"), "{wrong}");
        let large = Packet { data: vec![b'1'; MAX_INPUT_BYTES + 1], content_type: "application/json".into() };
        let refused = input::Host::send(&mut state, run.to_string(), "chat".into(), large.into()).await.unwrap_err();
        assert_eq!((refused.code, caller.asked().len()), (HostErrorCode::TooLarge, 2));
    }
}
