//! One request, step by step, with a wait where the test wants it.

use std::time::Duration;

use dormouse::{TaskError, wait};
use serde::{Deserialize, Serialize};
use wasip2::{
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
            RequestOptions, Scheme, http_error_code,
        },
    },
    io::streams::{InputStream, StreamError},
};

/// What to send, and where to wait meanwhile.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    authority: String,
    #[serde(default = "slash")]
    path: String,
    #[serde(default)]
    is_secure: bool,
    method: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// Bytes of `x` to send, in pieces.
    upload: Option<usize>,
    connect_ms: Option<u64>,
    first_byte_ms: Option<u64>,
    between_bytes_ms: Option<u64>,
    wait: Option<Wait>,
    #[serde(default)]
    wait_ms: u64,
    /// Sleeps as a program does, instead of asking for a wait.
    #[serde(default)]
    is_sleep: bool,
}

fn slash() -> String {
    "/".into()
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Wait {
    /// Before the answer is taken.
    Sent,
    /// After the first piece of the answer.
    Middle,
    /// At the end of the answer, with all handles kept.
    End,
    /// With nothing left.
    After,
}

/// What came of it.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    status: Option<u16>,
    headers: Vec<(String, String)>,
    bytes: usize,
    text: String,
    error: Option<String>,
    /// What kept handles said after a wait at the end.
    kept: Option<String>,
}

#[dormouse::task(id = "fetch")]
pub fn fetch(request: Request) -> Result<Answer, TaskError> {
    let mut answer = Answer::default();
    if let Err(error) = exchange(&request, &mut answer)? {
        answer.error = Some(format!("{error:?}"));
    }
    request.pause(Wait::After)?;
    Ok(answer)
}

/// Sends `count` requests at a time and tells what became of each.
#[dormouse::task(id = "many")]
pub fn many((authority, count): (String, usize)) -> Vec<String> {
    let send = |_| {
        let request = OutgoingRequest::new(Fields::new());
        request.set_scheme(Some(&Scheme::Http)).unwrap();
        request.set_authority(Some(&authority)).unwrap();
        request.set_path_with_query(Some("/hang")).unwrap();
        outgoing_handler::handle(request, Some(RequestOptions::new())).unwrap()
    };
    let sent: Vec<FutureIncomingResponse> = (0..count).map(send).collect();
    sent.iter()
        .map(|future| {
            future.subscribe().block();
            match future.get().unwrap().unwrap() {
                Ok(response) => response.status().to_string(),
                Err(error) => format!("{error:?}"),
            }
        })
        .collect()
}

fn exchange(request: &Request, answer: &mut Answer) -> Result<Result<(), ErrorCode>, TaskError> {
    let (outgoing, options) = request.prepare();
    let body = request.upload.map(|_| outgoing.body().unwrap());
    let future = match outgoing_handler::handle(outgoing, Some(options)) {
        Ok(future) => future,
        Err(error) => return Ok(Err(error)),
    };
    if let (Some(body), Some(bytes)) = (body, request.upload)
        && let Err(error) = upload(body, bytes)
    {
        answer.text = format!("upload: {error}");
    }
    request.pause(Wait::Sent)?;
    let pollable = future.subscribe();
    pollable.block();
    let response: IncomingResponse = match future.get().unwrap().unwrap() {
        Ok(response) => response,
        Err(error) => return Ok(Err(error)),
    };
    answer.status = Some(response.status());
    let headers = response.headers();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    answer.headers = headers.entries().into_iter().map(|(name, value)| (name, text(value))).collect();
    let body = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let readable = stream.subscribe();
    match read(request, &stream, answer)? {
        Ok(()) => {}
        Err(error) => return Ok(Err(error)),
    }
    if request.wait == Some(Wait::End) {
        let own = Fields::from_list(&[("a".into(), b"b".to_vec())]).unwrap();
        request.pause(Wait::End)?;
        let is_ready = (pollable.ready(), readable.ready());
        let (status, length) = (response.status(), headers.get("content-length").len());
        let (again, more) =
            (future.get().is_some_and(|taken| taken.is_err()), stream.read(10).map_err(|error| error.to_string()));
        let change = (own.append("c", b"d").is_ok(), own.entries().len(), headers.append("c", b"d").is_err());
        let (second, consumed) = (body.stream().is_err(), response.consume().is_err());
        answer.kept = Some(format!("{is_ready:?} {status} {length} {again} {more:?} {change:?} {second} {consumed}"));
    }
    drop((readable, stream));
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    Ok(trailers.get().unwrap().unwrap().map(|_| ()))
}

fn read(request: &Request, stream: &InputStream, answer: &mut Answer) -> Result<Result<(), ErrorCode>, TaskError> {
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(bytes) => {
                answer.bytes += bytes.len();
                if answer.text.len() < 1000 {
                    answer.text += &String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]);
                }
                if !bytes.is_empty() && answer.kept.is_none() {
                    answer.kept = Some("first piece".into());
                    request.pause(Wait::Middle)?;
                }
            }
            Err(StreamError::Closed) => return Ok(Ok(())),
            Err(StreamError::LastOperationFailed(error)) => {
                let unknown = || ErrorCode::InternalError(Some(format!("no code: {}", error.to_debug_string())));
                return Ok(Err(http_error_code(&error).unwrap_or_else(unknown)));
            }
        }
    }
}

fn upload(body: OutgoingBody, bytes: usize) -> Result<(), String> {
    let stream = body.write().unwrap();
    let piece = [b'x'; 4096];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(piece.len());
        stream.blocking_write_and_flush(&piece[..length]).map_err(|error| error.to_string())?;
        left -= length;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|error| format!("{error:?}"))
}

impl Request {
    fn prepare(&self) -> (OutgoingRequest, RequestOptions) {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
        let request = OutgoingRequest::new(Fields::from_list(&headers).unwrap());
        request.set_scheme(Some(if self.is_secure { &Scheme::Https } else { &Scheme::Http })).unwrap();
        request.set_authority(Some(&self.authority)).unwrap();
        request.set_path_with_query(Some(&self.path)).unwrap();
        match self.method.as_deref() {
            None | Some("GET") => {}
            Some("POST") => request.set_method(&Method::Post).unwrap(),
            Some(other) => request.set_method(&Method::Other(other.into())).unwrap(),
        }
        let options = RequestOptions::new();
        let nanos = |ms: Option<u64>| ms.map(|ms| ms * 1_000_000);
        options.set_connect_timeout(nanos(self.connect_ms)).unwrap();
        options.set_first_byte_timeout(nanos(self.first_byte_ms)).unwrap();
        options.set_between_bytes_timeout(nanos(self.between_bytes_ms)).unwrap();
        (request, options)
    }

    fn pause(&self, at: Wait) -> Result<(), TaskError> {
        let duration = Duration::from_millis(self.wait_ms);
        if self.wait == Some(at) && self.is_sleep {
            std::thread::sleep(duration);
        } else if self.wait == Some(at) {
            wait::duration(duration)?;
        }
        Ok(())
    }
}
