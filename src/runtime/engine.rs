//! The one configuration of wasmtime, and the ticker that makes guests yield.
//!
//! Compiled code, snapshots' page layout and limits all depend on this configuration, so there is exactly one in the
//! program: tests and tools use it too, and [`fingerprint`] names it.

use std::{
    hash::{Hash, Hasher},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use wasmtime::{Config, Engine, InstanceAllocationStrategy};

use super::functions::Functions;

/// How often a running guest yields, and its CPU time is looked at.
pub const TICK: Duration = Duration::from_millis(10);

/// Bytes of native stack for guest code. Interpreters compiled to WebAssembly recurse on it as well as on their own, which they guard
/// themselves: theirs should be full first, since only then the guest sees an error that it can catch. A thousand nested native
/// calls of a JavaScript engine need more than two MiB.
const WASM_STACK_BYTES: usize = 8 << 20;
/// Bytes of a fiber's whole stack: guest code, and the host functions it calls. Only touched pages take memory.
const FIBER_STACK_BYTES: usize = WASM_STACK_BYTES + (1 << 20);
/// Frames of a guest's stack that an error shows. Source: facts D12.
const BACKTRACE_FRAMES: usize = 50;
/// Raised when artifacts made by an older program must not be used although the engine is the same.
const GENERATION: u32 = 1;

/// An engine as this program needs it.
///
/// # Errors
/// If the machine is not one that wasmtime compiles for.
pub fn new() -> wasmtime::Result<Engine> {
    let mut config = config();
    config.enable_incremental_compilation(Arc::new(Functions::new()))?;
    Engine::new(&config)
}

fn config() -> Config {
    let mut config = Config::new();
    proposals(&mut config);
    config
        .wasm_branch_hinting(true)
        .epoch_interruption(true)
        .parallel_compilation(true)
        // An instance is made for one attempt, or the part of one between two waits, and its pages are told apart by what
        // backs them; a pool would hand out slots whose pages are kept from earlier guests.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_init_cow(true)
        // Four gigabytes of addresses for each memory and no bounds checks. 47 bits of addresses hold 32,000 such memories;
        // instances that wait have none.
        .memory_reservation(4 << 30)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        // Component-level concurrency inside one instance: no component that the rewriter accepts uses it.
        .concurrency_support(false);
    config
}

/// Exactly what the rewriter accepts: anything else is refused before it gets here, and stays refused if it does.
fn proposals(config: &mut Config) {
    config
        .wasm_component_model(true)
        .wasm_multi_memory(true)
        .wasm_reference_types(true)
        .wasm_relaxed_simd(true)
        .wasm_extended_const(true)
        .wasm_tail_call(true)
        .wasm_exceptions(true)
        .wasm_function_references(false)
        .wasm_gc(false)
        .wasm_memory64(false)
        .wasm_stack_switching(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false);
}

/// Names everything that compiled code depends on beside the bytes that are compiled: wasmtime, its settings and this
/// processor's features. 16 hex digits.
pub fn fingerprint(engine: &Engine) -> String {
    let mut hasher = StableHasher(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    GENERATION.hash(&mut hasher);
    hex::encode(&hasher.0.finalize().as_bytes()[..8])
}

/// A hasher whose result is the same in every process and release, which the standard library's are not.
struct StableHasher(blake3::Hasher);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        u64::from_le_bytes(self.0.finalize().as_bytes()[..8].try_into().expect("8 bytes"))
    }
}

/// A thread that advances the engine's epoch every [`TICK`]. Ends when dropped.
#[derive(Debug)]
pub struct Ticker {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts to tick.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(engine: Engine) -> std::io::Result<Ticker> {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = is_over.clone();
        let thread = thread::Builder::new().name("epoch-ticker".into()).spawn(move || {
            while !ends.load(Relaxed) {
                thread::park_timeout(TICK);
                engine.increment_epoch();
            }
        })?;
        Ok(Ticker { is_over, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot have panicked: it calls nothing that could.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_the_same_for_every_engine_of_this_program() {
        let fingerprints = [fingerprint(&new().unwrap()), fingerprint(&new().unwrap())];
        assert_eq!(fingerprints[0], fingerprints[1]);
        assert_eq!(fingerprints[0].len(), 16);
    }

    #[test]
    fn proposals_that_the_rewriter_refuses_are_off() {
        let engine = new().unwrap();
        for (module, what) in [
            ("(module (memory i64 1))", "64-bit memories"),
            ("(module (memory 1 1 shared))", "shared memories"),
            ("(module (type (struct)))", "structs"),
            ("(module (type (array i32)))", "arrays"),
            ("(module (func (param anyref)))", "references to anything"),
            ("(module (type $t (func)) (func (param (ref null $t)) (call_ref $t (local.get 0))))", "typed functions"),
            ("(module (func (param (ref extern))))", "references that are never null"),
            ("(module (tag $t) (func try catch $t end))", "exceptions as they were proposed first"),
        ] {
            assert!(wasmtime::Module::new(&engine, wat::parse_str(module).unwrap()).is_err(), "{what}");
        }
    }

    /// A collector that never frees would end runs that throw often.
    #[test]
    fn exceptions_are_collected() {
        let engine = new().unwrap();
        let text = r#"(module (tag $t (param i64 i64)) (func (export "f") (param i32)
            (loop $again
                (block $caught (result i64 i64 exnref) (try_table (catch_ref $t $caught) (throw $t (i64.const 1) (i64.const 2))) (unreachable))
                (drop) (drop) (drop)
                (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#;
        let module = wasmtime::Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let limits = wasmtime::StoreLimitsBuilder::new().memory_size(1 << 20).build();
        let mut store = wasmtime::Store::new(&engine, limits);
        store.limiter(|limits| limits);
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let function = instance.get_typed_func::<i32, ()>(&mut store, "f").unwrap();
        function.call(&mut store, 200_000).unwrap();
    }
}
