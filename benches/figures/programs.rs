//! Tasks that compute and do not wait, in every language, and how one is run: in the component as it was uploaded, or rewritten.

use std::{sync::Arc, time::Duration};

use dormouse::{
    host::{
        self, Begin, HostState,
        task::bindings::{Task, dormouse::task::types::Packet, exports::dormouse::task::tasks::TaskError},
    },
    model::payload,
};
use serde_json::json;
use wasmtime::{
    Engine, Store, bail,
    component::{Component, InstancePre, Linker, WasmList, types::ComponentItem},
};

use crate::{guests::MACHINE, report::thread_cpu};

/// The programs of a language.
pub struct Programs {
    /// For people.
    pub language: &'static str,
    /// Whose tasks they are.
    pub guest: &'static str,
    /// Percent that they may be slower once they are rewritten.
    pub slowdown: f64,
    /// Each with an amount of work that takes some ten milliseconds.
    pub tasks: &'static [(&'static str, u32)],
}

/// The same programs for all, and an interpreter in Rust.
pub const PROGRAMS: [Programs; 5] = [
    Programs {
        language: "Rust",
        guest: "bench",
        slowdown: 5.0,
        tasks: &[("fib", 34), ("sort", 200_000), ("json", 6_000), ("sha256", 6_000), ("trees", 300), ("interpreter", 1_000_000)],
    },
    Programs {
        language: "C",
        guest: "c-chain",
        slowdown: 5.0,
        tasks: &[("fib", 34), ("sort", 200_000), ("json", 6_000), ("sha256", 6_000), ("trees", 300)],
    },
    Programs {
        language: "JavaScript",
        guest: "js-chain",
        slowdown: 10.0,
        tasks: &[("fib", 25), ("sort", 10_000), ("json", 600), ("sha256", 20), ("trees", 20)],
    },
    Programs {
        language: "Python",
        guest: "python-chain",
        slowdown: 10.0,
        tasks: &[("fib", 23), ("sort", 20_000), ("json", 600), ("sha256", 12), ("trees", 20)],
    },
    Programs {
        language: "Go",
        guest: "go-chain",
        slowdown: 10.0,
        tasks: &[("fib", 32), ("sort", 100_000), ("json", 1_000), ("sha256", 3_000), ("trees", 200)],
    },
];

/// A component, compiled and linked, so that its tasks can be run.
pub enum Runnable {
    /// As it was uploaded, with the engine's own WASI.
    Plain(InstancePre<HostState>),
    /// Rewritten, with this host's WASI.
    Suspendable(InstancePre<HostState>),
}

/// CPU time of a task's call, and what it returned.
pub type Timed = (Duration, payload::Packet);

impl Runnable {
    pub fn plain(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Runnable> {
        let component = Component::new(engine, bytes)?;
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        for (name, import) in component.component_type().imports(engine) {
            let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
            if name.starts_with("dormouse:task/wait@") {
                // The host has only the halves of a wait; none of these tasks waits.
                let mut linked = linker.instance(name)?;
                for (function, _) in
                    instance.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                {
                    linked.func_new(function, |_, _, _, _| bail!("a task that computes was to wait"))?;
                }
            } else if name.starts_with("dormouse:task/") {
                host::task::link(&mut linker, name)?;
            }
        }
        Ok(Runnable::Plain(linker.instantiate_pre(&component)?))
    }

    pub fn suspendable(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Runnable> {
        let component = Component::new(engine, bytes)?;
        let mut linker = Linker::new(engine);
        host::link(&mut linker, &component)?;
        let mut memory = linker.instance("ckpt:host/memory")?;
        memory.func_wrap("pages", |_, _: (u32,)| Ok((0_u32,)))?;
        memory.func_wrap("visit", |_, _: (u32, WasmList<u8>)| Ok(()))?;
        Ok(Runnable::Suspendable(linker.instantiate_pre(&component)?))
    }

    /// Runs a task in an instance of its own, whose making is not timed.
    pub async fn run(&self, task: &str, amount: u32) -> wasmtime::Result<Timed> {
        let payload = Packet::from(payload::Packet::json(&json!({ "n": amount })));
        match self {
            Runnable::Plain(pre) => {
                let mut store = store(pre.engine())?;
                let instance = pre.instantiate_async(&mut store).await?;
                let task_world = Task::new(&mut store, &instance)?;
                let started = thread_cpu();
                let output = task_world.dormouse_task_tasks().call_run(&mut store, &task.to_owned(), &payload).await?;
                returned(thread_cpu() - started, output)
            }
            Runnable::Suspendable(pre) => {
                let mut store = store(pre.engine())?;
                let instance = pre.instantiate_async(&mut store).await?;
                let run = instance.get_typed_func::<(&str, &Packet), (u32,)>(&mut store, "ckpt-run")?;
                let take = instance.get_typed_func::<(), (Output,)>(&mut store, "ckpt-take")?;
                let started = thread_cpu();
                run.call_async(&mut store, (task, &payload)).await?;
                let (output,) = take.call_async(&mut store, ()).await?;
                returned(thread_cpu() - started, output)
            }
        }
    }
}

type Output = Result<Packet, TaskError>;

fn returned(time: Duration, output: Output) -> wasmtime::Result<Timed> {
    match output {
        Ok(output) => Ok((time, output.into())),
        Err(error) => bail!("a task that computes failed: {error:?}"),
    }
}

fn store(engine: &Engine) -> wasmtime::Result<Store<HostState>> {
    let setup = host::Setup { machine: MACHINE, cpu: Arc::new(Duration::default), run: None, begin: Begin::Fresh };
    let mut store = Store::new(engine, HostState::new(setup));
    store.limiter(|state| state.limiter());
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(wasmtime::UpdateDeadline::Yield(1)));
    Ok(store)
}
