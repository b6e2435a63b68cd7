//! What being suspendable costs a task that computes: the rewritten guest against the same guest as it was uploaded, in one
//! process, by the same engine, in alternation, by CPU time.

use std::{sync::Arc, time::Duration};

use dormouse::{
    host::{
        self, Begin, HostState,
        task::bindings::{Task, dormouse::task::types::Packet, exports::dormouse::task::tasks::TaskError},
    },
    model::payload,
    rewrite::{Limits, rewrite},
    runtime::engine,
};
use serde_json::json;
use wasmtime::{
    Engine, Store, bail,
    component::{Component, InstancePre, Linker, WasmList, types::ComponentItem},
};

use crate::{
    guests::{self, MACHINE},
    report::{Report, median, milliseconds, thread_cpu},
    size::wrong,
};

/// The tasks, and an amount of work that takes some ten milliseconds.
const TASKS: [(&str, u32); 5] = [("fib", 34), ("sort", 200_000), ("json", 6_000), ("sha256", 6_000), ("interpreter", 1_000_000)];
const ROUNDS: usize = 15;

/// The slow-down of each task, and the geometric mean of all.
pub async fn slowdown(report: &mut Report) -> anyhow::Result<()> {
    let engine = engine::new().map_err(wrong)?;
    let _ticker = engine::Ticker::start(engine.clone())?;
    let original = guests::guest("bench")?;
    let rewritten = rewrite(&original, &Limits::default())?.bytes;
    let plain = plain(&engine, &original).map_err(wrong)?;
    let suspendable = suspendable(&engine, &rewritten).map_err(wrong)?;
    let mut product = 1.0;
    for (task, amount) in TASKS {
        let payload = Packet::from(payload::Packet::json(&json!({ "n": amount })));
        let (mut ratios, mut plain_ms) = (vec![], vec![]);
        for round in 0..=ROUNDS {
            let (before, expected) = run_plain(&engine, &plain, task, &payload).await.map_err(wrong)?;
            let (after, output) = run_suspendable(&engine, &suspendable, task, &payload).await.map_err(wrong)?;
            anyhow::ensure!(expected == output, "{task} returns something else after rewriting");
            // The first round warms caches and branch predictors up.
            if round > 0 {
                ratios.push(after.as_secs_f64() / before.as_secs_f64());
                plain_ms.push(milliseconds(before));
            }
        }
        let ratio = median(&mut ratios);
        report.figure(&format!("{task}: unmodified"), median(&mut plain_ms), "ms");
        report.figure(&format!("{task}: slow-down"), percent(ratio), "%");
        product *= ratio;
    }
    report.at_most("Rust, geometric mean: slow-down", percent(f64::powf(product, 1.0 / TASKS.len() as f64)), "%", 5.0);
    Ok(())
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}

/// The component as it was uploaded, with the engine's own WASI.
fn plain(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<InstancePre<HostState>> {
    let component = Component::new(engine, bytes)?;
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        if name.starts_with("dormouse:task/wait@") {
            // The host has only the halves of a wait; none of these tasks waits.
            let mut linked = linker.instance(name)?;
            for (function, _) in instance.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_))) {
                linked.func_new(function, |_, _, _, _| bail!("a task that computes was to wait"))?;
            }
        } else if name.starts_with("dormouse:task/") {
            host::task::link(&mut linker, name)?;
        }
    }
    linker.instantiate_pre(&component)
}

/// The rewritten component, with this host's WASI.
fn suspendable(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<InstancePre<HostState>> {
    let component = Component::new(engine, bytes)?;
    let mut linker = Linker::new(engine);
    host::link(&mut linker, &component)?;
    let mut memory = linker.instance("ckpt:host/memory")?;
    memory.func_wrap("pages", |_, _: (u32,)| Ok((0_u32,)))?;
    memory.func_wrap("visit", |_, _: (u32, WasmList<u8>)| Ok(()))?;
    linker.instantiate_pre(&component)
}

type Output = Result<Packet, TaskError>;
type Timed = (Duration, payload::Packet);

async fn run_plain(engine: &Engine, pre: &InstancePre<HostState>, task: &str, payload: &Packet) -> wasmtime::Result<Timed> {
    let mut store = store(engine)?;
    let instance = pre.instantiate_async(&mut store).await?;
    let task_world = Task::new(&mut store, &instance)?;
    let started = thread_cpu();
    let output = task_world.dormouse_task_tasks().call_run(&mut store, &task.to_owned(), payload).await?;
    returned(thread_cpu() - started, output)
}

async fn run_suspendable(engine: &Engine, pre: &InstancePre<HostState>, task: &str, payload: &Packet) -> wasmtime::Result<Timed> {
    let mut store = store(engine)?;
    let instance = pre.instantiate_async(&mut store).await?;
    let run = instance.get_typed_func::<(&str, &Packet), (u32,)>(&mut store, "ckpt-run")?;
    let take = instance.get_typed_func::<(), (Output,)>(&mut store, "ckpt-take")?;
    let started = thread_cpu();
    run.call_async(&mut store, (task, payload)).await?;
    let (output,) = take.call_async(&mut store, ()).await?;
    returned(thread_cpu() - started, output)
}

fn returned(time: Duration, output: Output) -> wasmtime::Result<Timed> {
    match output {
        Ok(output) => Ok((time, output.into())),
        Err(_) => bail!("a task that computes failed"),
    }
}

fn store(engine: &Engine) -> wasmtime::Result<Store<HostState>> {
    let setup = host::Setup { machine: MACHINE, cpu: Arc::new(Duration::default), run: None, begin: Begin::Fresh };
    let mut store = Store::new(engine, HostState::new(setup)?);
    store.limiter(|state| state.limiter());
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(wasmtime::UpdateDeadline::Yield(1)));
    Ok(store)
}
