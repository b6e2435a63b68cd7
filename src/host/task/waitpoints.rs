//! `dormouse:task/waitpoints`: making and completing waitpoints without suspending.

use super::{
    check,
    wit::{
        types::{self, Idempotency, InputCursor, Moment},
        waitpoints,
    },
};
use crate::{
    host::{HostError, HostState},
    model::token::NewToken,
};

impl waitpoints::Host for HostState {
    async fn start_timer(&mut self, due: Moment, idempotency: Option<Idempotency>) -> Result<String, HostError> {
        let caller = self.acting()?.caller.clone();
        let (due, idempotency) = (check::moment("due", due)?, check::idempotency(idempotency)?);
        Ok(caller.start_timer(due, idempotency).await?.to_string())
    }

    async fn start_input(
        &mut self,
        cursor: InputCursor,
        timeout: Option<Moment>,
        idempotency: Option<Idempotency>,
    ) -> Result<String, HostError> {
        let caller = self.acting()?.caller.clone();
        let timeout = timeout.map(|timeout| check::moment("timeout", timeout)).transpose()?;
        let (cursor, idempotency) = (check::cursor("cursor", cursor)?, check::idempotency(idempotency)?);
        Ok(caller.start_input(cursor, timeout, idempotency).await?.to_string())
    }

    async fn create_token(
        &mut self,
        timeout: Option<Moment>,
        idempotency: Option<Idempotency>,
        tags: Vec<String>,
    ) -> Result<waitpoints::Token, HostError> {
        let caller = self.acting()?.caller.clone();
        let token = NewToken {
            timeout_at: timeout.map(|timeout| check::moment("timeout", timeout)).transpose()?,
            idempotency: check::idempotency(idempotency)?,
            tags: check::tags(tags)?,
        };
        let handle = caller.create_token(token).await?;
        Ok(waitpoints::Token {
            id: handle.id.to_string(),
            is_cached: handle.is_cached,
            callback_url: handle.callback_url,
            public_access_token: handle.public_access_token,
        })
    }

    async fn complete_token(&mut self, token: String, value: types::Packet) -> Result<(), HostError> {
        let caller = self.acting()?.caller.clone();
        let (token, value) = (check::waitpoint("token", &token)?, check::packet("value", value)?);
        caller.complete_token(token, value).await
    }

    async fn poll(&mut self, _waitables: Vec<String>, _timeout: types::DurationMs) -> Result<Vec<types::Completion>, HostError> {
        Err(HostError::not_in_this_version("waitpoints.poll"))
    }
}
