//! The rewriter's acceptance test: a program that is suspended at every nth call of a suspending import, moved to fresh instances or not,
//! does exactly what the original does in one go.
//!
//! `CASES` sets how many random programs are tried (2,000, or as many as two minutes allow), `SEED` with which they begin: a failure names its seed, and `CASES=1 SEED=…` repeats it.

mod cases;
mod exceptions;
mod generate;
mod host;
mod program;
mod refusals;
mod throws;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use program::{Checked, Compiler, Sources};

#[test]
fn hand_written_programs_survive_suspension_everywhere() {
    let compiler = Compiler::new();
    for (name, sources) in cases::all() {
        match program::check(&compiler, &sources, 5, usize::MAX) {
            Ok(Checked::Compared { suspensions, .. }) => assert!(suspensions > 0, "{name}: was never suspended"),
            Ok(Checked::Refused(reasons)) => panic!("{name}: refused: {reasons:?}"),
            Ok(Checked::NeverWaits) => panic!("{name}: never waits"),
            Err(difference) => panic!("{name}: {difference}"),
        }
    }
}

#[test]
fn random_programs_survive_suspension_everywhere() {
    let (cases, budget) = number("CASES").map_or((2_000, BUDGET), |cases| (cases, Duration::MAX));
    let first = number("SEED").unwrap_or(1);
    let begun = Instant::now();
    let compiler = Compiler::new();
    let (next, tally) = (AtomicU64::new(first), Mutex::new(Tally::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + cases || begun.elapsed() > budget {
                return;
            }
            match case(&compiler, seed) {
                Ok(checked) => tally.lock().expect("nobody panics with it").count(checked),
                Err(difference) => {
                    next.store(u64::MAX / 2, Relaxed);
                    panic!("SEED={seed} CASES=1 shows: {difference}");
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let tally = tally.into_inner().expect("a panic would have come through");
    let tried = tally.compared + tally.never_wait + tally.refused;
    println!("{tried} of {cases} cases in {:.0} s: {tally}", begun.elapsed().as_secs_f32());
    assert!(tried < 100 || tally.compared * 5 >= tried * 4, "most programs are supposed to be accepted and to wait");
}

/// Without `CASES`, what is not tried by then is left out: a busy machine has other tests to run.
const BUDGET: Duration = Duration::from_secs(110);

/// Programs tried for one seed until one waits.
const TRIES: u64 = 6;

/// The first program of a seed that waits at all.
fn case(compiler: &Compiler, seed: u64) -> Result<Checked, String> {
    for attempt in 0..TRIES {
        let Some(sources) = generate::program(seed.wrapping_add(attempt << 40)) else { continue };
        match program::check(compiler, &sources, seed, 1)? {
            Checked::NeverWaits => {}
            checked => return Ok(checked),
        }
    }
    Ok(Checked::NeverWaits)
}

/// What the programs came to.
#[derive(Default)]
struct Tally {
    compared: u64,
    runs: u64,
    suspensions: u64,
    never_wait: u64,
    refused: u64,
    /// Programs that each reason was given for; some have several.
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    fn count(&mut self, checked: Checked) {
        match checked {
            Checked::Compared { runs, suspensions } => {
                self.compared += 1;
                self.runs += runs;
                self.suspensions += suspensions;
            }
            Checked::NeverWaits => self.never_wait += 1,
            Checked::Refused(refusals) => {
                self.refused += 1;
                // Numbers name functions and globals, which differ from program to program.
                let reasons = refusals.into_iter().map(|refusal| refusal.reason.replace(|c: char| c.is_ascii_digit(), "_"));
                for reason in reasons.collect::<BTreeSet<_>>() {
                    *self.reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { compared, runs, suspensions, never_wait, refused, reasons } = self;
        write!(f, "{compared} programs compared in {runs} runs with {suspensions} suspensions; ")?;
        write!(f, "{never_wait} never wait, {refused} are refused")?;
        reasons.iter().try_for_each(|(reason, count)| write!(f, "\n  {count}: {reason}"))
    }
}

#[test]
fn damaged_modules_are_refused_without_a_panic() {
    for seed in 1..=number("CASES").unwrap_or(200) {
        let Some(mut sources) = generate::program(seed) else { continue };
        let mut random = generate::Random::new(seed);
        let bytes = &mut sources.modules.last_mut().expect("a program has modules").1;
        if random.below(3) == 0 {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        } else {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
        }
        drop(Sources::instrument(&sources));
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
