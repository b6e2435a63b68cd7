//! The figures as Markdown tables for `docs/benchmarks.md`: one for each benchmark, with a row for what was measured and a column for
//! whose it is, which a metric's name says before its colon.

use std::fmt::Write as _;

/// One figure.
pub struct Figure {
    pub bench: &'static str,
    /// Such as `js-chain: restore p50`.
    pub metric: String,
    pub value: f64,
    pub unit: String,
    pub target: Option<f64>,
    /// The machine's, when it was taken.
    pub load: f64,
}

impl Figure {
    fn subject(&self) -> &str {
        self.metric.split_once(": ").map_or("all", |(subject, _)| subject)
    }

    /// What is measured, and in what.
    fn row(&self) -> String {
        let what = self.metric.split_once(": ").map_or(self.metric.as_str(), |(_, what)| what);
        if self.unit.is_empty() { what.into() } else { format!("{what}, {}", self.unit) }
    }

    /// The value; if there is a target, that too, and in bold type what misses it.
    fn cell(&self) -> String {
        let value = if self.unit == "%" { format!("{:.1}", self.value) } else { rounded(self.value) };
        match self.target {
            Some(target) if self.value > target => format!("**{value}** (≤ {target})"),
            Some(target) => format!("{value} (≤ {target})"),
            None => value,
        }
    }
}

/// All tables.
pub fn markdown(figures: &[Figure]) -> String {
    let mut text = String::new();
    for figures in figures.chunk_by(|left, right| left.bench == right.bench) {
        writeln!(text, "### {}\n", figures[0].bench).expect("a string takes everything");
        let subjects = distinct(figures.iter().map(|figure| figure.subject().to_owned()));
        writeln!(text, "| | {} |\n|---|{}", subjects.join(" | "), "---|".repeat(subjects.len())).expect("as above");
        for row in distinct(figures.iter().map(Figure::row)) {
            let cell = |subject: &String| {
                figures
                    .iter()
                    .find(|figure| figure.row() == row && figure.subject() == subject)
                    .map(Figure::cell)
                    .unwrap_or_default()
            };
            let cells: Vec<_> = subjects.iter().map(cell).collect();
            writeln!(text, "| {row} | {} |", cells.join(" | ")).expect("as above");
        }
        let loads = figures.iter().map(|figure| figure.load);
        let (least, most) = (loads.clone().fold(f64::INFINITY, f64::min), loads.fold(0.0, f64::max));
        writeln!(text, "\nAt a load of {least:.1} to {most:.1}.\n").expect("as above");
    }
    text
}

/// In the order they come in, none twice.
fn distinct(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut found = vec![];
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// Three digits, as far as they are behind the point; all digits of what is counted.
fn rounded(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
