//! Asks a bundle what it declares, in an instance without a run that cannot do anything else.

use std::{sync::Arc, time::Duration};

use super::{
    LoadedComponent, PrepareError,
    cpu::{Meter, Throttle},
    instance::Live,
};
use crate::{
    host::{self, Begin},
    model::{error::RunError, machine::Machine, task::BundleDefinition},
};

/// CPU time for start functions and `describe`.
const CPU_LIMIT: Duration = Duration::from_secs(5);
/// Time in all: `describe` has nothing to wait for.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Has 512 MiB of memory.
const MACHINE: Machine = Machine::Small1x;

/// What the bundle declares, and warnings for people.
pub(super) async fn describe(component: &LoadedComponent) -> Result<(BundleDefinition, Vec<String>), PrepareError> {
    let described = tokio::time::timeout(TIME_LIMIT, ask(component)).await;
    let declared = described.map_err(|_| undescribed(format!("it took longer than {} s", TIME_LIMIT.as_secs())))??;
    host::describe::convert(declared).map_err(PrepareError::Undescribed)
}

async fn ask(component: &LoadedComponent) -> Result<host::describe::Declared, PrepareError> {
    let meter = Meter::new(Duration::ZERO, Some(CPU_LIMIT));
    // Uploads are rare and a person waits for them: no throttle.
    let mut throttle = Throttle::new(1.0);
    let read_meter = meter.clone();
    let setup = host::Setup { machine: MACHINE, cpu: Arc::new(move || read_meter.used()), run: None, begin: Begin::Fresh };
    let live = Live::new(component, setup, &meter, &mut throttle).await.map_err(anyhow::Error::from)?;
    let mut live = live.map_err(stopped)?;
    let declared = live.call(component.exports.describe, (), &meter, &mut throttle).await;
    declared.map(|(declared,)| declared).map_err(|error| stopped(live.ended(&error)))
}

fn stopped(error: RunError) -> PrepareError {
    match error {
        RunError::Internal { message, stack_trace, .. } => {
            let text = |text: Option<String>| text.unwrap_or_default();
            undescribed(format!("`describe` stopped: {}\n{}", text(message), text(stack_trace)).trim_end().to_owned())
        }
        other => undescribed(format!("`describe` stopped: {other:?}")),
    }
}

fn undescribed(reason: String) -> PrepareError {
    PrepareError::Undescribed(vec![reason])
}
