//! The values that cross into and out of `tasks.run`, in the shape of the component model.
//!
//! Written out by hand rather than generated, so that the payload goes in without a copy.

use wasmtime::component::{ComponentType, Lift, Lower};

use crate::model::payload::Packet;

/// What `tasks.run` takes.
pub(super) type RunParams<'a> = (&'a str, PacketIn<'a>);
/// What `tasks.run` returns.
pub(super) type RunResults = (Result<PacketOut, TaskError>,);

/// `types.packet`, going in.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct PacketIn<'a> {
    data: &'a [u8],
    #[component(name = "content-type")]
    content_type: &'a str,
}

impl<'a> From<&'a Packet> for PacketIn<'a> {
    fn from(packet: &'a Packet) -> Self {
        PacketIn { data: &packet.data, content_type: &packet.content_type }
    }
}

/// `types.packet`, coming out.
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct PacketOut {
    pub(super) data: Vec<u8>,
    #[component(name = "content-type")]
    pub(super) content_type: String,
}

/// `tasks.task-error`
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct TaskError {
    pub(super) reason: FailureReason,
    pub(super) error: RunError,
    pub(super) retry: RetryDecision,
}

/// `tasks.failure-reason`
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub(super) enum FailureReason {
    #[component(name = "thrown")]
    Thrown,
    #[component(name = "unknown-task")]
    UnknownTask,
    #[component(name = "input")]
    Input,
    #[component(name = "output")]
    Output,
    #[component(name = "middleware")]
    Middleware,
    #[component(name = "catch-error")]
    CatchError,
    #[component(name = "out-of-memory")]
    OutOfMemory,
}

/// `tasks.retry-decision`
#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
pub(super) enum RetryDecision {
    #[component(name = "policy")]
    Policy,
    #[component(name = "abort")]
    Abort,
    #[component(name = "retry-delay")]
    Delay(u64),
    #[component(name = "retry-at")]
    At(u64),
}

/// `types.run-error`
#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
pub(super) enum RunError {
    #[component(name = "exception")]
    Exception(ExceptionChain),
    #[component(name = "text")]
    Text(String),
    #[component(name = "custom")]
    Custom(String),
    #[component(name = "internal")]
    Internal(InternalError),
}

/// `types.exception-chain`
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct ExceptionChain {
    pub(super) outermost: Exception,
    pub(super) causes: Vec<Exception>,
}

/// `types.exception`
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct Exception {
    pub(super) name: String,
    pub(super) message: String,
    #[component(name = "stack-trace")]
    pub(super) stack_trace: String,
}

/// `types.internal-error`
#[derive(Debug, ComponentType, Lift)]
#[component(record)]
pub(super) struct InternalError {
    pub(super) code: String,
    pub(super) message: String,
}
