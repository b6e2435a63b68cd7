//! The rewriter's acceptance test: a program that is suspended at every nth call of a suspending import, moved to fresh instances or not,
//! does exactly what the original does in one go.
//!
//! `CASES` sets how many random programs are tried, `SEED` with which they begin: a failure names its seed, and `CASES=1 SEED=…` repeats it.

mod cases;
mod generate;
mod host;
mod program;
mod refusals;

use std::sync::atomic::{AtomicU64, Ordering};

use program::{Checked, Sources};

#[test]
fn hand_written_programs_survive_suspension_everywhere() {
    let engine = program::engine();
    for (name, sources) in cases::all() {
        match program::check(&engine, &sources, 5) {
            Ok(Checked::Compared { suspensions, .. }) => assert!(suspensions > 0, "{name}: was never suspended"),
            Ok(Checked::Refused(reasons)) => panic!("{name}: refused: {reasons}"),
            Err(difference) => panic!("{name}: {difference}"),
        }
    }
}

#[test]
fn random_programs_survive_suspension_everywhere() {
    let cases = number("CASES").unwrap_or(600);
    let first = number("SEED").unwrap_or(1);
    let engine = program::engine();
    let (next, compared, refused, suspensions) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + cases {
                return;
            }
            let Some(sources) = generate::program(seed) else { continue };
            match program::check(&engine, &sources, seed) {
                Ok(Checked::Compared { runs, suspensions: count }) => {
                    compared.fetch_add(runs, Ordering::Relaxed);
                    suspensions.fetch_add(count, Ordering::Relaxed);
                }
                Ok(Checked::Refused(_)) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(difference) => {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    panic!("SEED={seed} CASES=1 shows: {difference}");
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let (compared, refused, suspensions) = (compared.into_inner(), refused.into_inner(), suspensions.into_inner());
    println!("{compared} runs compared, {suspensions} suspensions, {refused} of {cases} programs refused");
    assert!(cases < 100 || refused * 2 <= cases, "most programs are supposed to be accepted");
}

#[test]
fn damaged_modules_are_refused_without_a_panic() {
    for seed in 1..number("CASES").unwrap_or(600) {
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
