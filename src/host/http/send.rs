//! One request and its answer, over a connection of its own.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Method, Response, Uri, header, uri::Scheme};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, io::TokioIo, p2::bindings::http::types::ErrorCode};

use super::{
    Explain, Held, MAX_FIELDS, MAX_HEAD_BYTES, Shared, Shares,
    body::{Answer, Kept, Request},
    connect::{Connection, connect, secure},
};

/// Bytes read ahead on a connection.
const BUFFER_BYTES: usize = 64 << 10;

/// Sends a request. The future that comes with the answer carries the connection: when it is dropped, so is that.
pub(super) async fn send(
    egress: &Shared,
    shares: &Shares,
    request: http::Request<WasiBody>,
    options: RequestOptions,
    place: OwnedSemaphorePermit,
    is_over: Arc<AtomicBool>,
    explain: Explain,
) -> Result<(Response<WasiBody>, impl Future<Output = Result<(), Error>> + Send + use<>), Error> {
    let limits = &egress.limits;
    let to = Destination::of(&request)?;
    let deadline = Instant::now() + at_most(options.connect_timeout, limits.connect);
    let place = Arc::new(place);
    let mut others = Held::new();
    // The environment's first: who waits for that takes nothing from others.
    for places in [&*shares.environment, &egress.of_process] {
        let one = timeout_at(deadline, places.exchanges.clone().acquire_owned()).await;
        others.push(one.map_err(|_| Error::ConnectionLimitReached)?.map_err(|_| Error::ConnectionLimitReached)?);
    }
    let stream = connect(egress, (&to.host, to.port), (shares, &place), deadline, &explain).await?;
    let stream: Box<dyn Connection> =
        if to.is_secure { secure(&egress.tls, &to.host, stream, deadline).await? } else { Box::new(stream) };

    let mut settings = http1::Builder::new();
    settings.max_buf_size(BUFFER_BYTES).max_header_size(MAX_HEAD_BYTES).max_headers(MAX_FIELDS);
    let (mut sender, connection) = settings.handshake(TokioIo::new(stream)).await?;
    // It reads and writes by itself, also while the guest does something else.
    let given_up = CancellationToken::new();
    let until = given_up.clone();
    let connection: AbortOnDropJoinHandle<()> = spawn(async move {
        // What ends it before its time is seen by whoever reads the body.
        let _ = until.run_until_cancelled_owned(connection).await;
        drop(others);
    });
    let answered = sender.send_request(outgoing(request, limits.body_bytes));
    let answer = timeout(at_most(options.first_byte_timeout, limits.first_byte), answered)
        .await
        .map_err(|_| Error::HttpResponseTimeout)??;
    if let Some(length) = answer.body().size_hint().exact().filter(|length| *length > limits.body_bytes) {
        explain(format!("The answer to a request was not read: it has {length} bytes, and {} are allowed", limits.body_bytes));
        return Err(Error::HttpResponseBodySize(Some(length)));
    }
    let answer = answer.map(|body| {
        let is_empty = body.is_end_stream();
        is_over.store(is_empty, Relaxed);
        let answer = Answer {
            body,
            left: limits.body_bytes,
            limit: limits.body_bytes,
            between_bytes: at_most(options.between_bytes_timeout, limits.between_bytes),
            is_over,
            timer: None,
            has_trailers: false,
            explain,
            kept: (!is_empty).then(|| Kept::new(place, limits.unread(), given_up)),
        };
        answer.boxed_unsync()
    });
    Ok((answer, async move {
        connection.await;
        Ok(())
    }))
}

/// Where a request goes.
struct Destination {
    host: String,
    port: u16,
    is_secure: bool,
}

impl Destination {
    fn of<B>(request: &http::Request<B>) -> Result<Destination, Error> {
        // A tunnel through a server would reach what the policy never sees.
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let uri = request.uri();
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        // Names and passwords belong into a field; here they would be sent as part of the server's name.
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(Error::HttpRequestUriInvalid);
        }
        let is_secure = uri.scheme() == Some(&Scheme::HTTPS);
        // A port that is there and is none, as in `host:99999`, is not another way to write none.
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str().ends_with(authority.host()) => {
                if is_secure {
                    443
                } else {
                    80
                }
            }
            None => return Err(Error::HttpRequestUriInvalid),
        };
        Ok(Destination { host: host.to_owned(), port, is_secure })
    }
}

/// The request as a server, not a proxy, expects it.
fn outgoing(request: http::Request<WasiBody>, limit: u64) -> http::Request<Request> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    // The connection is not used again.
    parts.headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    http::Request::from_parts(parts, Request { body, left: limit, limit })
}

/// What the guest asks for, but no more than is allowed, which is also what it gets if it does not ask.
fn at_most(asked: Option<Duration>, cap: Duration) -> Duration {
    asked.map_or(cap, |asked| asked.min(cap))
}

/// What went wrong on a connection, in WASI's words.
pub(super) fn code_of(error: &hyper::Error) -> ErrorCode {
    // Our own bodies fail with an error that has its word already.
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Error::HttpRequestBodySize(size)) = inner.downcast_ref() {
            return ErrorCode::HttpRequestBodySize(*size);
        }
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::UnexpectedEof => ErrorCode::HttpResponseIncomplete,
                _ => ErrorCode::ConnectionTerminated,
            };
        }
        cause = inner.source();
    }
    if error.is_parse_too_large() {
        ErrorCode::HttpResponseHeaderSectionSize(Some(MAX_HEAD_BYTES as u32))
    } else if error.is_incomplete_message() {
        ErrorCode::HttpResponseIncomplete
    } else if error.is_closed() || error.is_canceled() || error.is_body_write_aborted() {
        ErrorCode::ConnectionTerminated
    } else {
        ErrorCode::HttpProtocolError
    }
}
