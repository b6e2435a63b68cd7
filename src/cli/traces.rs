//! `dormouse runs trace`: what a run did, as a tree.

use std::collections::HashMap;

use anyhow::Context;
use serde_json::Value;

use super::{
    client::{Client, segment},
    output::{self, BOLD, CYAN, DIM, PLAIN, RED, YELLOW},
};

/// Most characters of the names and the lines before them.
const NAMES: usize = 48;
/// Characters of the longest bar.
const BAR: f64 = 24.0;

/// Prints the tree of a run.
pub(super) async fn show(arguments: &super::Client, run: &str) -> anyhow::Result<()> {
    let client = Client::of(&arguments.access)?;
    let path = format!("/api/v1/runs/{}/trace", segment(run));
    if arguments.json {
        output::json(&client.get(&path, &[]).await?);
        return Ok(());
    }
    let (mut spans, mut after, mut is_cut) = (Vec::new(), None, false);
    loop {
        let mut query = vec![("page[size]", "10000".to_owned())];
        query.extend(after.take().map(|after| ("page[after]", after)));
        let mut page: Value = client.get(&path, &query).await?;
        spans.append(page["data"].as_array_mut().context("the server sent no spans")?);
        is_cut |= page["pagination"]["truncated"] == true;
        match page["pagination"]["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    for line in lines(&spans) {
        anstream::println!("{line}");
    }
    if is_cut {
        anstream::eprintln!("{DIM}there are more spans than the server shows{PLAIN}");
    }
    Ok(())
}

/// The tree, line by line. Spans come in the order in which they began.
fn lines(spans: &[Value]) -> Vec<String> {
    let named = spans.iter().enumerate().filter_map(|(place, span)| Some((span["id"].as_str()?, place)));
    let places: HashMap<&str, usize> = named.collect();
    let mut below: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut tops = Vec::new();
    for (place, span) in spans.iter().enumerate() {
        match span["parentId"].as_str().and_then(|parent| places.get(parent)).filter(|parent| **parent != place) {
            Some(parent) => below.entry(*parent).or_default().push(place),
            None => tops.push(place),
        }
    }
    let begin = spans.iter().map(start).fold(f64::INFINITY, f64::min);
    let end = spans.iter().map(|span| start(span) + nanos(span)).fold(begin, f64::max);
    let mut lines = Vec::new();
    // What is still to be printed, the next one last: with the lines before it, and those before what is below it.
    let mut rest: Vec<(usize, String, String)> = tops.into_iter().rev().map(|top| (top, String::new(), String::new())).collect();
    while let Some((place, before, before_children)) = rest.pop() {
        lines.push(line(&spans[place], &before, begin, end));
        let children = below.remove(&place).unwrap_or_default();
        for (number, child) in children.iter().enumerate().rev() {
            let is_last = number + 1 == children.len();
            let (branch, trunk) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            rest.push((*child, format!("{before_children}{branch}"), format!("{before_children}{trunk}")));
        }
    }
    lines
}

fn line(span: &Value, before: &str, begin: f64, end: f64) -> String {
    let is = |flag: &str| span[flag] == true;
    let (colour, mark) = match (is("isError"), is("isCancelled"), is("isPartial")) {
        (true, ..) => (RED, "  failed"),
        (_, true, _) => (YELLOW, "  cancelled"),
        (.., true) => (CYAN, "  goes on"),
        _ => (PLAIN, ""),
    };
    let room = NAMES.saturating_sub(before.chars().count()).max(8);
    let name: String = span["message"].as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).take(room).collect();
    let took = output::duration((nanos(span) / 1e6) as i64);
    let scale = BAR / (end - begin).max(1.0);
    let (indent, width) = (((start(span) - begin) * scale) as usize, ((nanos(span) * scale).round() as usize).max(1));
    let bold = if before.is_empty() { BOLD } else { "" };
    format!(
        "{DIM}{before}{PLAIN}{bold}{colour}{name:<room$}{PLAIN} {took:>12}  {}{colour}{}{PLAIN}{colour}{mark}{PLAIN}",
        " ".repeat(indent),
        "▬".repeat(width)
    )
}

/// Nanoseconds since 1970.
fn start(span: &Value) -> f64 {
    let time = span["startTime"].as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    time.map_or(0.0, |time| time.timestamp_micros() as f64 * 1000.0)
}

fn nanos(span: &Value) -> f64 {
    span["duration"].as_f64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_has_its_branches_and_survives_nonsense() {
        let span = |id: &str, parent: &str, name: &str, ms: u32| {
            let start = format!("2026-01-01T00:00:0{}Z", id.len());
            json!({"id": id, "parentId": parent, "message": name, "startTime": start, "duration": ms * 1_000_000, "isError": name == "b"})
        };
        let spans = [
            span("r", "", "run", 4000),
            span("aa", "r", "a", 20),
            span("bbb", "r", "b", 1500),
            span("cccc", "aa", "c", 1),
            json!({}),
        ];
        let plain: Vec<String> = lines(&spans)
            .iter()
            .map(|line| {
                anstream::adapter::strip_str(line).to_string().replace('▬', "").split_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(plain, ["run 4.0 s", "├─ a 20 ms", "│ └─ c 1 ms", "└─ b 1.5 s failed", "0 ms"]);
    }
}
