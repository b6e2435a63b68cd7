//! Asks a bundle what it declares, in an instance without a run that cannot do anything else.

use std::{sync::Arc, time::Duration};

use super::{
    LoadedComponent, PrepareError,
    cpu::{Meter, Throttle},
    host_fault,
    instance::Live,
};
use crate::{
    host::{
        self, Begin,
        task::describe::{DescribeError, describe as call_describe},
    },
    model::{error::RunError, machine::Machine, task::BundleDefinition},
};

/// CPU time for start functions and `describe`.
const CPU_LIMIT: Duration = Duration::from_secs(5);
/// Time in all: `describe` has nothing to wait for.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Has 512 MiB of memory.
const MACHINE: Machine = Machine::Small1x;

/// What the bundle declares.
pub(super) async fn describe(component: &LoadedComponent) -> Result<BundleDefinition, PrepareError> {
    match tokio::time::timeout(TIME_LIMIT, ask(component)).await {
        Ok(answer) => answer,
        Err(_) => Err(undescribed(format!("it took longer than {} s", TIME_LIMIT.as_secs()))),
    }
}

async fn ask(component: &LoadedComponent) -> Result<BundleDefinition, PrepareError> {
    let meter = Meter::new(Duration::ZERO, Some(CPU_LIMIT));
    // Uploads are rare and a person waits for them: no throttle.
    let mut throttle = Throttle::new(1.0);
    let read_meter = meter.clone();
    let setup = host::Setup { machine: MACHINE, cpu: Arc::new(move || read_meter.used()), run: None, begin: Begin::Fresh };
    let live = Live::new(component, setup, &meter, &mut throttle).await.map_err(host_fault)?;
    let mut live = live.map_err(stopped)?;
    let described = meter.measure(&mut throttle, call_describe(&mut live.store, &live.instance)).await;
    described.map_err(|error| match error {
        DescribeError::Refused(reasons) => PrepareError::Undescribed(reasons),
        DescribeError::NotABundle(error) => undescribed(format!("{error:#}")),
        DescribeError::Trapped(error) => stopped(live.ended(&error)),
    })
}

/// What the author should know of a bundle that is accepted all the same.
pub(super) fn warnings(definition: &BundleDefinition) -> Vec<String> {
    let capped = definition.tasks.iter().filter_map(|task| {
        let machine = task.machine.filter(|machine| machine.memory_bytes() > 4 << 30)?;
        Some(format!(
            "task {}: the machine {} has {} GiB of memory, of which a component can address 4",
            task.id,
            machine.as_str(),
            machine.memory_bytes() >> 30,
        ))
    });
    capped.collect()
}

fn stopped(error: RunError) -> PrepareError {
    let RunError::Internal { message, stack_trace, .. } = error else { return undescribed(format!("it stopped: {error:?}")) };
    let stack: String = stack_trace.iter().flat_map(|stack| stack.lines()).map(|line| format!("\n    {line}")).collect();
    undescribed(format!("it stopped: {}{stack}", message.unwrap_or_default()))
}

fn undescribed(reason: String) -> PrepareError {
    PrepareError::Undescribed(vec![reason])
}
