//! A panic ends the instance at once (WebAssembly guests do not unwind), so what it says has to leave before.

use std::panic::PanicHookInfo;

use serde_json::json;

use crate::log::{Level, record};

/// From now on a panic writes its message and place into the run's log.
pub(crate) fn report_to_the_log() {
    std::panic::set_hook(Box::new(report));
}

fn report(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("a value that is no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    record(Level::Error, &format!("panicked at {place}: {message}"), vec![("panic", json!(message)), ("location", json!(place))]);
}
