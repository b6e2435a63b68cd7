//! How things look in a terminal. Colours go through `anstream`, which leaves them out where none are wanted.

use chrono::{DateTime, Local, Utc};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

pub(super) const RED: &str = "\x1b[31m";
pub(super) const GREEN: &str = "\x1b[32m";
pub(super) const YELLOW: &str = "\x1b[33m";
pub(super) const CYAN: &str = "\x1b[36m";
pub(super) const DIM: &str = "\x1b[2m";
pub(super) const BOLD: &str = "\x1b[1m";
pub(super) const PLAIN: &str = "\x1b[0m";

/// Prints one JSON value, with line breaks.
pub(super) fn json(value: &Value) {
    anstream::println!("{value:#}");
}

/// Prints one JSON value on one line.
pub(super) fn json_line(value: &Value) {
    anstream::println!("{value}");
}

/// The colour of a run's status.
pub(super) fn status_colour(status: &str) -> &'static str {
    match status {
        "COMPLETED" => GREEN,
        "EXECUTING" | "DEQUEUED" => CYAN,
        "WAITING" | "DELAYED" | "QUEUED" | "PENDING_VERSION" => YELLOW,
        _ => RED,
    }
}

/// `12:03:04.567`, in the user's zone; what is not a time stays as it is.
pub(super) fn clock(time: &str) -> String {
    let parsed = DateTime::parse_from_rfc3339(time);
    parsed.map_or_else(|_| time.into(), |time| time.with_timezone(&Local).format("%H:%M:%S%.3f").to_string())
}

/// `2026-01-02 12:03:04`, in the user's zone.
pub(super) fn day_and_time(time: &str) -> String {
    let parsed = DateTime::parse_from_rfc3339(time);
    parsed.map_or_else(|_| time.into(), |time| time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string())
}

/// `830 ms`, `4.2 s`, `3 min 20 s`, `5 h 2 min` between two times; to now if the second is missing.
pub(super) fn elapsed(from: &str, to: Option<&str>) -> String {
    let parse = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc));
    let Some(from) = parse(from) else { return String::new() };
    let to = to.map_or_else(|| Some(Utc::now()), parse).unwrap_or(from);
    duration((to - from).num_milliseconds())
}

/// The same of a number of milliseconds.
pub(super) fn duration(ms: i64) -> String {
    match ms.max(0) {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        ms @ 60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        ms => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A table that fits the terminal.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

/// Prints one line of a run's log.
pub(super) fn log_line(line: &Value) {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let level = text("level");
    let colour = match level.as_str() {
        "error" => RED,
        "warn" => YELLOW,
        "debug" => DIM,
        _ => PLAIN,
    };
    let fields = line["attributes"].as_object().into_iter().flatten();
    let fields: String = fields.map(|(name, value)| format!(" {name}={}", inline(value))).collect();
    let (time, message) = (clock(&text("at")), text("message"));
    anstream::println!("{DIM}{time}{PLAIN} {colour}{level:>5}{PLAIN} {message}{DIM}{fields}{PLAIN}");
}

/// A value in a line: strings without quotes.
pub(super) fn inline(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_rough() {
        let from = "2026-01-01T00:00:00Z";
        let to = |time: &str| elapsed(from, Some(time));
        assert_eq!(to("2026-01-01T00:00:00.830Z"), "830 ms");
        assert_eq!(to("2026-01-01T00:00:04.21Z"), "4.2 s");
        assert_eq!(to("2026-01-01T00:03:20Z"), "3 min 20 s");
        assert_eq!(to("2026-01-01T05:02:00Z"), "5 h 2 min");
        assert_eq!(elapsed("?", None), "");
    }
}
