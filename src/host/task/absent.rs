//! Interfaces that the contract has and this version does not serve yet: every call says so.

use super::wit::{api, types};
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
