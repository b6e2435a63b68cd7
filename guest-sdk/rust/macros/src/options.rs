//! What may stand in the parentheses of `#[task(…)]`.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Lit, Meta, Result, Token};

use crate::duration;

/// The options of one task, checked.
#[derive(Default)]
pub(crate) struct Options {
    pub id: Option<String>,
    pub description: Option<String>,
    pub retry: Option<Retry>,
    pub queue: Option<Queue>,
    /// Its own limit and shared ones.
    pub limits: Vec<Limit>,
    pub machine: Option<String>,
    /// Milliseconds of CPU time.
    pub max_duration: Option<u64>,
    /// Milliseconds.
    pub ttl: Option<u64>,
    /// It listens for cancellation.
    pub on_cancel: bool,
    /// It may have schedules.
    pub scheduled: bool,
    /// It has this one.
    pub schedule: Option<Schedule>,
}

/// `schedule = "0 9 * * *"`, or `schedule(cron = "…", timezone = "…", window = "30m", environments(production))`.
pub(crate) struct Schedule {
    pub cron: String,
    pub timezone: String,
    /// Milliseconds.
    pub window: Option<u64>,
    /// As the host calls them; none: all.
    pub environments: Vec<String>,
}

/// `retry(…)`; what is not written has the platform's defaults.
pub(crate) struct Retry {
    pub max_attempts: u32,
    pub factor: f64,
    /// Milliseconds.
    pub min_timeout: u64,
    /// Milliseconds.
    pub max_timeout: u64,
    pub randomize: bool,
    pub out_of_memory_machine: Option<String>,
}

impl Default for Retry {
    /// Source: facts D1.
    fn default() -> Retry {
        Retry {
            max_attempts: 3,
            factor: 2.0,
            min_timeout: 1_000,
            max_timeout: 60_000,
            randomize: true,
            out_of_memory_machine: None,
        }
    }
}

/// `queue = "name"`, or `queue(name = "…", concurrency = 5)`; without a name it is the task's own.
#[derive(Default)]
pub(crate) struct Queue {
    pub name: Option<String>,
    pub concurrency: Option<u32>,
}

/// `concurrency(total = 20, per_key = 2)`, the task's own; or, in `limits(…)`, `limit(name = "…", total = 10, per_key = 1)`.
pub(crate) struct Limit {
    pub name: Option<String>,
    pub total: Option<u32>,
    pub per_key: Option<u32>,
}

const OPTIONS: &str =
    "id, description, retry(…), queue, concurrency(…), limits(…), machine, max_duration, ttl, on_cancel, schedule, scheduled";
const RETRY_OPTIONS: &str = "max_attempts, factor, min_timeout, max_timeout, randomize, out_of_memory_machine";
const QUEUE_OPTIONS: &str = "name, concurrency";
/// Highest limit of a queue, and bound of a limit.
const MAX_CONCURRENCY: u32 = 100_000;
/// Most shared limits of a task.
const MAX_SHARED_LIMITS: usize = 2;
const SCHEDULE_OPTIONS: &str = "cron, timezone, window, environments(…)";
const ENVIRONMENTS: [&str; 4] = ["development", "staging", "preview", "production"];
const MINUTE: u64 = 60_000;
const MAX_WINDOW: u64 = 24 * 60 * MINUTE;

impl Parse for Options {
    fn parse(input: ParseStream) -> Result<Options> {
        let mut options = Options::default();
        for (name, meta) in distinct(input)? {
            match name.as_str() {
                "id" => options.id = Some(task_id(&meta)?),
                "description" => options.description = Some(text(&meta)?),
                "retry" => options.retry = Some(retry(&meta)?),
                "queue" => options.queue = Some(queue(&meta)?),
                "concurrency" => options.limits.insert(0, limit(&meta, "total, per_key")?),
                "limits" => options.limits.extend(shared_limits(&meta)?),
                "machine" => options.machine = Some(text(&meta)?),
                "max_duration" => options.max_duration = Some(max_duration(&meta)?),
                "ttl" => options.ttl = Some(milliseconds(&meta)?),
                "on_cancel" => options.on_cancel = truth(&meta)?,
                "scheduled" => options.scheduled = truth(&meta)?,
                "schedule" => options.schedule = Some(schedule(&meta)?),
                _ => return Err(unknown(&meta, OPTIONS)),
            }
        }
        Ok(options)
    }
}

fn retry(meta: &Meta) -> Result<Retry> {
    let mut retry = Retry::default();
    for (name, meta) in meta.require_list()?.parse_args_with(distinct)? {
        match name.as_str() {
            "max_attempts" => retry.max_attempts = whole(&meta, 1, 250)?,
            "factor" => retry.factor = number(&meta)?,
            "min_timeout" => retry.min_timeout = milliseconds(&meta)?,
            "max_timeout" => retry.max_timeout = milliseconds(&meta)?,
            "randomize" => retry.randomize = truth(&meta)?,
            "out_of_memory_machine" => retry.out_of_memory_machine = Some(text(&meta)?),
            _ => return Err(unknown(&meta, RETRY_OPTIONS)),
        }
    }
    Ok(retry)
}

fn queue(meta: &Meta) -> Result<Queue> {
    if let Meta::NameValue(_) = meta {
        return Ok(Queue { name: Some(queue_name(meta)?), concurrency: None });
    }
    let mut queue = Queue::default();
    for (name, meta) in meta.require_list()?.parse_args_with(distinct)? {
        match name.as_str() {
            "name" => queue.name = Some(queue_name(&meta)?),
            "concurrency" => queue.concurrency = Some(whole(&meta, 0, MAX_CONCURRENCY)?),
            _ => return Err(unknown(&meta, QUEUE_OPTIONS)),
        }
    }
    Ok(queue)
}

/// A task's own limit, or with a name a shared one.
fn limit(meta: &Meta, allowed: &str) -> Result<Limit> {
    let mut limit = Limit { name: None, total: None, per_key: None };
    for (name, meta) in meta.require_list()?.parse_args_with(distinct)? {
        match name.as_str() {
            "name" if allowed.starts_with("name") => limit.name = Some(limit_name(&meta)?),
            "total" => limit.total = Some(whole(&meta, 0, MAX_CONCURRENCY)?),
            "per_key" => limit.per_key = Some(whole(&meta, 0, MAX_CONCURRENCY)?),
            _ => return Err(unknown(&meta, allowed)),
        }
    }
    Ok(limit)
}

fn shared_limits(meta: &Meta) -> Result<Vec<Limit>> {
    let listed = meta.require_list()?.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)?;
    let mut limits: Vec<Limit> = Vec::new();
    for meta in &listed {
        if !meta.path().is_ident("limit") {
            return Err(unknown(meta, "limit(…)"));
        }
        let limit = limit(meta, "name, total, per_key")?;
        if limit.name.is_none() {
            return Err(Error::new(meta.span(), "a shared limit needs a name; `concurrency(…)` is the task's own"));
        }
        if limits.iter().any(|other| other.name == limit.name) {
            return Err(Error::new(meta.span(), "the task names this limit twice"));
        }
        limits.push(limit);
    }
    if limits.len() > MAX_SHARED_LIMITS {
        return Err(Error::new(meta.span(), format!("a task has at most {MAX_SHARED_LIMITS} shared limits")));
    }
    Ok(limits)
}

fn limit_name(meta: &Meta) -> Result<String> {
    let name = text(meta)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > 122 || !name.bytes().all(allowed) {
        return Err(Error::new(meta.span(), "a limit's name has 1 to 122 of A-Z a-z 0-9 _ -"));
    }
    Ok(name)
}

fn schedule(meta: &Meta) -> Result<Schedule> {
    let mut schedule = Schedule { cron: String::new(), timezone: "UTC".into(), window: None, environments: Vec::new() };
    if let Meta::NameValue(_) = meta {
        return Ok(Schedule { cron: cron(meta)?, ..schedule });
    }
    for (name, meta) in meta.require_list()?.parse_args_with(distinct)? {
        match name.as_str() {
            "cron" => schedule.cron = cron(&meta)?,
            "timezone" => schedule.timezone = text(&meta)?,
            "window" => schedule.window = Some(window(&meta)?),
            "environments" => schedule.environments = environments(&meta)?,
            _ => return Err(unknown(&meta, SCHEDULE_OPTIONS)),
        }
    }
    match schedule.cron.is_empty() {
        true => Err(Error::new(meta.span(), "a schedule needs its times, e.g. cron = \"0 9 * * 1-5\"")),
        false => Ok(schedule),
    }
}

/// The host reads the fields; that there are five is what is worth saying at once.
fn cron(meta: &Meta) -> Result<String> {
    let cron = text(meta)?;
    match cron.split_whitespace().count() {
        5 => Ok(cron),
        count => Err(Error::new(
            value(meta)?.span(),
            format!("{count} fields instead of five: minute, hour, day of month, month, day of week, e.g. \"0 9 * * 1-5\""),
        )),
    }
}

fn window(meta: &Meta) -> Result<u64> {
    match milliseconds(meta)? {
        window if window <= MAX_WINDOW && window % MINUTE == 0 => Ok(window),
        _ => Err(Error::new(value(meta)?.span(), "a window is a whole number of minutes, at most 24h")),
    }
}

fn environments(meta: &Meta) -> Result<Vec<String>> {
    let named = meta.require_list()?.parse_args_with(distinct)?;
    let known = |(name, meta): (String, Meta)| match ENVIRONMENTS.contains(&name.as_str()) {
        true => Ok(name.to_uppercase()),
        false => Err(Error::new(meta.span(), format!("there are {}", ENVIRONMENTS.join(", ")))),
    };
    named.into_iter().map(known).collect()
}

/// The options in their order with their names; a name that comes twice is an error.
fn distinct(input: ParseStream) -> Result<Vec<(String, Meta)>> {
    let mut named: Vec<(String, Meta)> = Vec::new();
    for meta in Punctuated::<Meta, Token![,]>::parse_terminated(input)? {
        let name = meta.path().get_ident().map(ToString::to_string).unwrap_or_default();
        if named.iter().any(|(earlier, _)| *earlier == name) {
            return Err(Error::new(meta.span(), format!("`{name}` is given twice")));
        }
        named.push((name, meta));
    }
    Ok(named)
}

fn unknown(meta: &Meta, known: &str) -> Error {
    Error::new(meta.path().span(), format!("not an option here; there are {known}"))
}

fn task_id(meta: &Meta) -> Result<String> {
    let id = text(meta)?;
    if id.is_empty() || id.len() > 128 {
        return Err(Error::new(meta.span(), "a task's id has 1 to 128 characters"));
    }
    Ok(id)
}

fn queue_name(meta: &Meta) -> Result<String> {
    let name = text(meta)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-/".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(allowed) {
        return Err(Error::new(meta.span(), "a queue's name has 1 to 128 of A-Z a-z 0-9 _ - /"));
    }
    Ok(name)
}

fn max_duration(meta: &Meta) -> Result<u64> {
    match milliseconds(meta)? {
        too_short @ 1..5_000 => {
            Err(Error::new(meta.span(), format!("{too_short} ms is too short: at least 5s, or 0s for no limit")))
        }
        limit => Ok(limit),
    }
}

fn milliseconds(meta: &Meta) -> Result<u64> {
    duration::parse(&text(meta)?).map_err(|reason| Error::new(value(meta).map_or_else(|_| meta.span(), Spanned::span), reason))
}

fn text(meta: &Meta) -> Result<String> {
    match literal(meta)? {
        Lit::Str(text) => Ok(text.value()),
        other => Err(Error::new(other.span(), "a text in quotes is expected")),
    }
}

fn truth(meta: &Meta) -> Result<bool> {
    match meta {
        Meta::Path(_) => Ok(true),
        _ => match literal(meta)? {
            Lit::Bool(truth) => Ok(truth.value),
            other => Err(Error::new(other.span(), "`true` or `false` is expected")),
        },
    }
}

fn whole(meta: &Meta, least: u32, most: u32) -> Result<u32> {
    match literal(meta)? {
        Lit::Int(number) => match number.base10_parse::<u32>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(Error::new(number.span(), format!("must be {least} to {most}"))),
        },
        other => Err(Error::new(other.span(), "a whole number is expected")),
    }
}

fn number(meta: &Meta) -> Result<f64> {
    let number: f64 = match literal(meta)? {
        Lit::Float(number) => number.base10_parse()?,
        Lit::Int(number) => number.base10_parse()?,
        other => return Err(Error::new(other.span(), "a number is expected")),
    };
    match number.is_finite() && number >= 0.0 {
        true => Ok(number),
        false => Err(Error::new(meta.span(), "must be 0 or more")),
    }
}

fn literal(meta: &Meta) -> Result<&Lit> {
    match value(meta)? {
        Expr::Lit(ExprLit { lit, .. }) => Ok(lit),
        other => Err(Error::new(other.span(), "a literal is expected: the options are read when the task is compiled")),
    }
}

fn value(meta: &Meta) -> Result<&Expr> {
    Ok(&meta.require_name_value()?.value)
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn refusal(text: &str) -> String {
        syn::parse_str::<Options>(text).err().unwrap_or_else(|| panic!("{text} was taken")).to_string()
    }

    #[test]
    fn all_options_are_understood() {
        let options: Options = syn::parse_str(
            r#"id = "hello", retry(max_attempts = 5, factor = 1.5, min_timeout = "2s", max_timeout = "1m", randomize = false),
               machine = "small-2x", queue(name = "mail", concurrency = 2), max_duration = "5m", ttl = "1h", on_cancel, description = "Greets","#,
        )
        .unwrap();
        let retry = options.retry.unwrap();
        assert_eq!((retry.max_attempts, retry.factor, retry.min_timeout, retry.max_timeout), (5, 1.5, 2_000, 60_000));
        assert!(!retry.randomize);
        let queue = options.queue.unwrap();
        assert_eq!((queue.name.as_deref(), queue.concurrency), (Some("mail"), Some(2)));
        assert_eq!((options.max_duration, options.ttl), (Some(300_000), Some(3_600_000)));
        assert_eq!((options.id.as_deref(), options.on_cancel), (Some("hello"), true));
    }

    #[test]
    fn a_retry_policy_is_filled_up_with_the_defaults() {
        let retry = syn::parse_str::<Options>("retry(max_attempts = 7)").unwrap().retry.unwrap();
        assert_eq!((retry.max_attempts, retry.factor, retry.min_timeout, retry.max_timeout), (7, 2.0, 1_000, 60_000));
        assert!(retry.randomize);
    }

    #[test]
    fn a_task_has_a_limit_of_its_own_and_two_shared_ones() {
        let text = r#"limits(limit(name = "openai", total = 10), limit(name = "db")), concurrency(total = 20, per_key = 2)"#;
        let limits = syn::parse_str::<Options>(text).unwrap().limits;
        let limits: Vec<_> = limits.iter().map(|limit| (limit.name.as_deref(), limit.total, limit.per_key)).collect();
        assert_eq!(limits, [(None, Some(20), Some(2)), (Some("openai"), Some(10), None), (Some("db"), None, None)]);
        for wrong in [
            "limits(limit(total = 1))",
            r#"limits(limit(name = "a/b"))"#,
            r#"limits(limit(name = "a"), limit(name = "a"))"#,
            r#"limits(limit(name = "a"), limit(name = "b"), limit(name = "c"))"#,
            r#"limits(queue(name = "a"))"#,
            r#"concurrency(name = "a")"#,
            "concurrency(total = 100001)",
        ] {
            assert!(syn::parse_str::<Options>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_schedule_is_a_text_or_has_parts() {
        let schedule = |text: &str| syn::parse_str::<Options>(text).unwrap().schedule.unwrap();
        let short = schedule(r#"schedule = "0 9 * * 1-5""#);
        assert_eq!((short.cron.as_str(), short.timezone.as_str(), short.window), ("0 9 * * 1-5", "UTC", None));
        let long = schedule(
            r#"schedule(cron = "0 9 * * *", timezone = "Europe/Berlin", window = "1h30m",
               environments(production, staging))"#,
        );
        assert_eq!((long.timezone.as_str(), long.window), ("Europe/Berlin", Some(5_400_000)));
        assert_eq!(long.environments, ["PRODUCTION", "STAGING"]);
        assert!(syn::parse_str::<Options>("scheduled").unwrap().scheduled);
    }

    #[test]
    fn mistakes_are_refused_with_a_reason() {
        for (text, reason) in [
            ("colour = 3", "there are id"),
            ("retry(tries = 3)", "max_attempts"),
            ("retry(max_attempts = 0)", "1 to 250"),
            ("retry(max_attempts = -1)", "1 to 250"),
            ("retry(factor = -0.5)", "0 or more"),
            ("retry(randomize = 1)", "true"),
            (r#"max_duration = "1s""#, "at least 5s"),
            (r#"ttl = "soon""#, "not a duration"),
            (r#"id = "a", id = "b""#, "twice"),
            (r#"id = """#, "1 to 128"),
            (r#"queue = "a b""#, "A-Z"),
            ("machine = PRESET", "literal"),
            (r#"schedule = "0 0 9 * * *""#, "6 fields instead of five"),
            (r#"schedule(timezone = "UTC")"#, "needs its times"),
            (r#"schedule(cron = "0 9 * * *", window = "90s")"#, "whole number of minutes"),
            (r#"schedule(cron = "0 9 * * *", window = "25h")"#, "at most 24h"),
            (r#"schedule(cron = "0 9 * * *", environments(prod))"#, "there are development"),
            (r#"schedule(at = "noon")"#, "cron, timezone"),
        ] {
            let error = refusal(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
