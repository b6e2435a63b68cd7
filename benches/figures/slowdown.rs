//! What being suspendable costs a task that computes: the rewritten guest against the same guest as it was uploaded, in one
//! process, by the same engine, in alternation, by CPU time.

use dormouse::{
    rewrite::{Limits, rewrite},
    runtime::engine,
};

use crate::{
    guests,
    programs::{PROGRAMS, Programs, Runnable},
    report::{Report, median, milliseconds},
    size::wrong,
};

const ROUNDS: usize = 15;

/// The slow-down of each task, and the geometric mean of each language.
pub async fn slowdown(report: &mut Report) -> anyhow::Result<()> {
    for programs in report.asked(&PROGRAMS, |programs| programs.guest) {
        let engine = engine::new().map_err(wrong)?;
        let _ticker = engine::Ticker::start(engine.clone())?;
        let original = guests::guest(programs.guest)?;
        let rewritten = rewrite(&original, &Limits::default())?.bytes;
        let plain = Runnable::plain(&engine, &original).map_err(wrong)?;
        let suspendable = Runnable::suspendable(&engine, &rewritten).map_err(wrong)?;
        let slower = compare(report, programs, &plain, &[("", &suspendable)]).await?;
        report.at_most(&format!("{}: slow-down, geometric mean", programs.language), slower[0], "%", programs.slowdown);
    }
    Ok(())
}

/// Percent by which all tasks are slower in each of some named versions of a guest than in the plain one, as a geometric mean.
pub async fn compare(
    report: &mut Report,
    programs: &Programs,
    plain: &Runnable,
    versions: &[(&str, &Runnable)],
) -> anyhow::Result<Vec<f64>> {
    let mut products = vec![1.0; versions.len()];
    for (task, amount) in programs.tasks {
        let mut plain_ms = vec![];
        let mut ratios = vec![vec![]; versions.len()];
        for _ in 0..=ROUNDS {
            let (before, expected) = plain.run(task, *amount).await.map_err(wrong)?;
            for (ratios, (_, version)) in ratios.iter_mut().zip(versions) {
                let (after, output) = version.run(task, *amount).await.map_err(wrong)?;
                anyhow::ensure!(expected == output, "{task} returns something else after rewriting");
                ratios.push(after.as_secs_f64() / before.as_secs_f64());
            }
            plain_ms.push(milliseconds(before));
        }
        let name = programs.language;
        report.figure(&format!("{name}: {task}, unmodified"), median(&mut plain_ms[1..]), "ms");
        for ((product, ratios), (version, _)) in products.iter_mut().zip(&mut ratios).zip(versions) {
            // The first round warms caches and branch predictors up.
            let ratio = median(&mut ratios[1..]);
            report.figure(&format!("{name}: {task}, slow-down{version}"), percent(ratio), "%");
            *product *= ratio;
        }
    }
    Ok(products.into_iter().map(|product| percent(f64::powf(product, 1.0 / programs.tasks.len() as f64))).collect())
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}
