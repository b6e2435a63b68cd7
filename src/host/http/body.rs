//! Bodies on their way: counted, timed, and known to be at their end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::{Error, WasiBody};

use super::Explain;

/// What goes with an answer of which more is to come: the run's place, and the watch over its connection, which has the others.
pub(super) struct Kept {
    asked: Arc<Notify>,
    is_given_up: CancellationToken,
    _watch: AbortOnDropJoinHandle<()>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Kept {
    /// Cancels `given_up` when nobody has asked for more of the body for `unread`.
    pub fn new(place: Arc<OwnedSemaphorePermit>, unread: Duration, given_up: CancellationToken) -> Kept {
        let (asked, is_given_up) = (Arc::new(Notify::new()), given_up.clone());
        let heard = asked.clone();
        let watch = spawn(async move {
            while timeout(unread, heard.notified()).await.is_ok() {}
            given_up.cancel();
        });
        Kept { asked, is_given_up, _watch: watch, _place: place }
    }

    /// Somebody asks for more. False: it is too late.
    fn ask(&self) -> bool {
        self.asked.notify_one();
        !self.is_given_up.is_cancelled()
    }
}

/// An answer's body.
pub(super) struct Answer {
    pub body: hyper::body::Incoming,
    pub left: u64,
    pub limit: u64,
    pub between_bytes: Duration,
    pub is_over: Arc<AtomicBool>,
    /// Runs while more of the body is waited for.
    pub timer: Option<Pin<Box<Sleep>>>,
    /// Whether trailers came, which a guest can still ask for when the body is at its end.
    pub has_trailers: bool,
    pub explain: Explain,
    /// None: all of it is here.
    pub kept: Option<Kept>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.kept.as_ref().is_some_and(|kept| !kept.ask()) {
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let between_bytes = this.between_bytes;
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + between_bytes)));
            ready!(timer.as_mut().poll(context));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        this.timer = None;
        Poll::Ready(match frame {
            None => {
                this.kept = None;
                this.is_over.store(!this.has_trailers, Relaxed);
                None
            }
            Some(Ok(frame)) => {
                this.has_trailers |= frame.is_trailers();
                Some(count(&mut this.left, frame).ok_or_else(|| {
                    (this.explain)(format!("The answer to a request was cut off: it has more than {} bytes", this.limit));
                    Error::HttpResponseBodySize(Some(this.limit))
                }))
            }
            Some(Err(error)) => Some(Err(Error::Hyper(error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body, as the guest writes it.
pub(super) struct Request {
    pub body: WasiBody,
    pub left: u64,
    pub limit: u64,
}

impl Body for Request {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| count(&mut this.left, frame?).ok_or(Error::HttpRequestBodySize(Some(this.limit)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The frame, unless it is more than is left.
fn count(left: &mut u64, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
    let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
    *left = left.checked_sub(bytes)?;
    Some(frame)
}
