//! Five effects that somebody else can count, with a wait after each: what of them a crash repeats.

use std::time::Duration;

use dormouse::{TaskError, wait};
use serde::Deserialize;
use serde_json::Value;
use wasip2::http::{
    outgoing_handler,
    types::{ErrorCode, Fields, Method, OutgoingBody, OutgoingRequest, Scheme},
};

use crate::waits::Input;

/// What each wait takes.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
pub struct Five {
    k: Value,
    /// Where the effects are counted, `http://…`.
    url: String,
}

/// Posts `k.0` to `k.4` with a wait after each, then `k.done`.
#[dormouse::task(id = "bench-five")]
pub fn five(Input(payload): Input<Five>) -> Result<Value, TaskError> {
    for i in 0..5 {
        post(&payload.url, &format!("{}.{i}", payload.k))?;
        wait::duration(PAUSE)?;
    }
    post(&payload.url, &format!("{}.done", payload.k))?;
    Ok(payload.k)
}

fn post(url: &str, body: &str) -> Result<(), TaskError> {
    send(url, body).map_err(TaskError::new)
}

fn send(url: &str, body: &str) -> Result<(), String> {
    let invalid = |()| format!("{url} cannot be posted to");
    let address = url.strip_prefix("http://").ok_or(()).map_err(invalid)?;
    let (authority, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Post).map_err(invalid)?;
    request.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(if path.is_empty() { "/" } else { path })).map_err(invalid)?;
    let outgoing = request.body().map_err(invalid)?;
    let shown = |error: ErrorCode| format!("{url}: {error:?}");
    let future = outgoing_handler::handle(request, None).map_err(shown)?;
    let stream = outgoing.write().map_err(invalid)?;
    stream.blocking_write_and_flush(body.as_bytes()).map_err(|error| format!("{url}: {error:?}"))?;
    drop(stream);
    OutgoingBody::finish(outgoing, None).map_err(shown)?;
    future.subscribe().block();
    let answer = future.get().and_then(Result::ok).ok_or(()).map_err(invalid)?.map_err(shown)?;
    match answer.status() {
        200..300 => Ok(()),
        status => Err(format!("{url} answered {status}")),
    }
}
