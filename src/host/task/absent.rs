//! Interfaces that the contract has and this version does not serve yet: every call says so.

use super::wit::{api, input, streams, types};
use crate::host::{HostError, HostState};

fn absent<T>(function: &str) -> Result<T, HostError> {
    Err(HostError::not_in_this_version(function))
}

impl api::Host for HostState {
    async fn request(
        &mut self,
        _method: api::Method,
        _path: String,
        _body: Option<types::Packet>,
    ) -> Result<api::Response, HostError> {
        absent("api.request")
    }
}

impl input::Host for HostState {
    async fn receive(
        &mut self,
        _cursors: Vec<types::InputCursor>,
        _max: u32,
        _timeout: types::DurationMs,
    ) -> Result<Vec<types::InputValue>, HostError> {
        absent("input.receive")
    }

    async fn send(&mut self, _run: String, _stream_id: String, _value: types::Packet) -> Result<(), HostError> {
        absent("input.send")
    }
}

impl streams::Host for HostState {
    async fn append(&mut self, _target: streams::Target, _key: String, _chunks: Vec<String>) -> Result<(), HostError> {
        absent("streams.append")
    }

    async fn read(
        &mut self,
        _target: streams::Target,
        _key: String,
        _start: Option<u64>,
        _max: u32,
        _timeout: types::DurationMs,
    ) -> Result<streams::Page, HostError> {
        absent("streams.read")
    }
}
