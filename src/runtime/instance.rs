//! One instance in its store: limits set, start functions run, its functions called under the meter.

use std::{sync::Arc, time::Duration};

use wasmtime::{
    Store,
    component::{ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower},
};

use super::{
    LoadedComponent,
    cpu::{Meter, Throttle},
    failure::{self, Doing},
};
use crate::{
    host::{self, Begin, HostState, limits::HOSTCALL_FUEL},
    model::{error::RunError, machine::Machine},
};

/// CPU time for the start functions of an instance that is not of a run.
const START_LIMIT: Duration = Duration::from_secs(5);
/// Has 512 MiB of memory, as when the bundle was asked what it declares.
const STILL_MACHINE: Machine = Machine::Small1x;
/// Ticks that no call lives to see.
const NO_DEADLINE: u64 = 1 << 48;

/// A store with the one instance in it.
pub(super) struct Live {
    pub(super) store: Store<HostState>,
    pub(super) instance: Instance,
    machine: Machine,
    /// Version of the rewriter that made the component.
    pub(super) rewriter: u32,
}

impl Live {
    /// Makes an instance. The outer error is the host's fault, the inner one the guest's: its start functions failed.
    pub(super) async fn new(
        component: &LoadedComponent,
        setup: host::Setup,
        meter: &Arc<Meter>,
        throttle: &mut Throttle,
    ) -> wasmtime::Result<Result<Live, RunError>> {
        let machine = setup.machine;
        let mut store = Store::new(component.engine(), HostState::new(setup));
        store.limiter(|state| state.limiter());
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        store.set_epoch_deadline(1);
        let at_tick = meter.clone();
        store.epoch_deadline_callback(move |_| at_tick.tick());
        match meter.measure(throttle, component.pre.instantiate_async(&mut store)).await {
            Ok(instance) => Ok(Ok(Live { store, instance, machine, rewriter: component.rewriting().rewriter })),
            Err(error) => Ok(Err(ended(&store, machine, &error, Doing::Running))),
        }
    }

    /// Makes an instance that nothing will be run in, its start functions apart, and that nobody hears of.
    pub(super) async fn still(component: &LoadedComponent) -> wasmtime::Result<Live> {
        let meter = Meter::new(Duration::ZERO, Some(START_LIMIT));
        let read_meter = meter.clone();
        let cpu: host::CpuMeter = Arc::new(move || read_meter.used());
        let setup = host::Setup { machine: STILL_MACHINE, cpu, run: None, begin: Begin::Restored };
        let live = Self::new(component, setup, &meter, &mut Throttle::new(1.0)).await?;
        live.map_err(|error| wasmtime::format_err!("the start functions failed: {error:?}"))
    }

    /// Calls an export. Its time is the guest's.
    pub(super) async fn call<P, R>(
        &mut self,
        function: ComponentExportIndex,
        params: P,
        meter: &Meter,
        throttle: &mut Throttle,
    ) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let function = self.instance.get_typed_func::<P, R>(&mut self.store, function)?;
        meter.measure(throttle, function.call_async(&mut self.store, params)).await
    }

    /// Calls an export on the host's own behalf: it costs the guest no time, and the guest's limit does not end it.
    pub(super) async fn call_unmeasured(&mut self, function: ComponentExportIndex) -> wasmtime::Result<()> {
        let function = self.instance.get_typed_func::<(), ()>(&mut self.store, function)?;
        self.store.set_epoch_deadline(NO_DEADLINE);
        let result = function.call_async(&mut self.store, ()).await;
        self.store.set_epoch_deadline(1);
        result
    }

    /// Why the guest stopped.
    pub(super) fn ended(&self, error: &wasmtime::Error) -> RunError {
        let state = self.store.data();
        let rewriter = self.rewriter;
        let doing = match (state.is_suspending(), state.is_answer_pending()) {
            (true, _) => Doing::Unwinding { rewriter },
            (false, true) => Doing::Rewinding { rewriter },
            (false, false) => Doing::Running,
        };
        ended(&self.store, self.machine, error, doing)
    }
}

fn ended(store: &Store<HostState>, machine: Machine, error: &wasmtime::Error, doing: Doing) -> RunError {
    store.data().finish_output();
    failure::of_stopped(error, machine, store.data().memory_denied(), doing)
}
