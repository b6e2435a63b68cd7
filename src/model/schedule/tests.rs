//! Expressions against a table of what others do differently, and against another implementation.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::Cron;
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::model::id::Id;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn cron(text: &str) -> CronExpr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The next times on the zone's clocks, with their offsets.
fn times(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let timing = Timing::parse(text, Some(zone), None).unwrap();
    let local = |at: DateTime<Utc>| at.with_timezone(&timing.zone).format("%Y-%m-%dT%H:%M%:z").to_string();
    timing.upcoming(at(after)).take(count).map(local).collect()
}

#[test]
fn expressions_mean_what_people_who_know_cron_mean_by_them() {
    let next = |text: &str, count: usize| {
        times(text, "UTC", "2026-01-15T12:00:00Z", count)
            .into_iter()
            .map(|time| time.strip_suffix("+00:00").unwrap().replace("2026-", ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(next("*/5 * * * *", 2), ["01-15T12:05", "01-15T12:10"]);
    assert_eq!(next("0 0 L * *", 2), ["01-31T00:00", "02-28T00:00"]);
    assert_eq!(next("0 9 * * 0", 1), ["01-18T09:00"], "Sunday");
    assert_eq!(next("0 9 * * 7", 1), ["01-18T09:00"], "Sunday, too");
    assert_eq!(next("0 9 * * 1-5", 3), ["01-16T09:00", "01-19T09:00", "01-20T09:00"], "Friday, then Monday");
    assert_eq!(next("0 9 * * 5-7", 3), ["01-16T09:00", "01-17T09:00", "01-18T09:00"]);
    assert_eq!(next("0 9 * * fri-sun", 3), next("0 9 * * 5-7", 3));
    assert_eq!(next("0 9 * * 5L", 2), ["01-30T09:00", "02-27T09:00"], "the last Friday");
    assert_eq!(next("0 9 * * 7L", 2), ["01-25T09:00", "02-22T09:00"], "the last Sunday");
    assert_eq!(next("0 9 L * 1L", 3), ["01-26T09:00", "01-31T09:00", "02-23T09:00"]);
    assert_eq!(next("0 9 1,L * *", 3), ["01-31T09:00", "02-01T09:00", "02-28T09:00"]);
    assert_eq!(next("0 0 13 * 5", 4), ["01-16T00:00", "01-23T00:00", "01-30T00:00", "02-06T00:00"], "the 13th or a Friday");
    assert_eq!(next("0 0 */2 * 1", 3), ["01-17T00:00", "01-19T00:00", "01-21T00:00"], "odd days or a Monday");
    assert_eq!(next("0 0 ? * MON", 1), ["01-19T00:00"]);
    assert_eq!(next("0 0 1-31 * MON", 1), ["01-19T00:00"], "every day is no choice");
    assert_eq!(next("10/20 6 * * *", 3), ["01-16T06:10", "01-16T06:30", "01-16T06:50"]);
    assert_eq!(next("0 8-18/5 * feb *", 3), ["02-01T08:00", "02-01T13:00", "02-01T18:00"]);
    assert_eq!(times("0 0 29 2 *", "UTC", "2026-01-15T12:00:00Z", 2), ["2028-02-29T00:00+00:00", "2032-02-29T00:00+00:00"]);
    assert_eq!(times("0 0 * * *", "UTC", "2100-12-31T00:00:00Z", 2).len(), 0, "the calendar ends with the year 2100");
}

#[test]
fn a_time_that_clocks_skip_fires_right_after_it_and_one_that_comes_twice_fires_once() {
    let spring = |text: &str| times(text, "America/New_York", "2026-03-08T05:30:00Z", 3);
    let late = ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00", "2026-03-10T02:30-04:00"];
    assert_eq!(spring("30 2 * * *"), late);
    assert_eq!(spring("0,30 2,3 * * *")[..2], ["2026-03-08T03:00-04:00", "2026-03-08T03:30-04:00"], "three of its times are one");
    assert_eq!(spring("30 * * * *"), ["2026-03-08T01:30-05:00", "2026-03-08T03:30-04:00", "2026-03-08T04:30-04:00"]);

    let autumn = |text: &str, count: usize| times(text, "America/New_York", "2026-11-01T04:30:00Z", count);
    assert_eq!(autumn("30 1 * * *", 2), ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]);
    assert_eq!(
        autumn("*/30 1 * * *", 3),
        ["2026-11-01T01:00-04:00", "2026-11-01T01:30-04:00", "2026-11-02T01:00-05:00"],
        "never backwards"
    );
    assert_eq!(
        autumn("*/30 * * * *", 5),
        [
            "2026-11-01T01:00-04:00",
            "2026-11-01T01:30-04:00",
            "2026-11-01T01:00-05:00",
            "2026-11-01T01:30-05:00",
            "2026-11-01T02:00-05:00"
        ],
        "every half hour is every half hour"
    );
    let second_pass = times("30 1 * * *", "America/New_York", "2026-11-01T06:10:00Z", 1);
    assert_eq!(second_pass, ["2026-11-02T01:30-05:00"], "it has fired when it was half past one before");
    let half_an_hour = times("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2);
    assert_eq!(half_an_hour, ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]);
    let a_day = times("0 9 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", 1);
    assert_eq!(a_day, ["2011-12-31T00:00+14:00"], "the day that Samoa left out");
}

#[test]
fn what_is_no_expression_is_refused_with_the_field_and_the_rule() {
    for (text, says) in [
        ("", "0 fields instead of five"),
        ("* * * *", "4 fields instead of five"),
        ("*/10 * * * * *", "seconds are not allowed"),
        ("* * * * * * *", "7 fields"),
        ("@daily", "write five fields"),
        ("60 * * * *", "minute: \"60\" is not 0 to 59"),
        ("* 24 * * *", "hour: \"24\" is not 0 to 23"),
        ("* * 0 * *", "day of month: \"0\" is not 1 to 31; L is the last day"),
        ("* * * 13 *", "month: \"13\" is not 1 to 12 or JAN to DEC"),
        ("* * * * 8", "day of week: \"8\" is not 0 to 7 or SUN to SAT; 5L is the last Friday"),
        ("* * * * 1#2", "day of week"),
        ("* * 1W * *", "day of month"),
        ("* * * * L", "day of week: \"\" is not"),
        ("? * * * *", "minute"),
        ("5-1 * * * *", "minute: \"5-1\" ends before it begins"),
        ("*/0 * * * *", "minute: \"0\" is no step"),
        ("*/x * * * *", "minute: \"x\" is no step"),
        ("+5 * * * *", "minute"),
        (", * * * *", "minute: \"\" is not"),
        ("1- * * * *", "minute"),
        ("* * * tuesday *", "month"),
        ("99999999999 * * * *", "minute"),
        ("٥ * * * *", "minute"),
        ("0 0 31 2 *", "never fire"),
        ("0 0 30,31 2 *", "never fire"),
        ("0 0 31 4,6,9,11 *", "never fire"),
    ] {
        let error = text.parse::<CronExpr>().expect_err(text).to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
    let long = format!("{} * * * *", ["0"; 300].join(","));
    assert_eq!(long.parse::<CronExpr>().unwrap_err(), CronError::TooLong);
    cron("0 0 31 2 1").next_after(Tz::UTC, Utc::now()).expect("a Monday in February will do");
    assert_eq!(cron("  0   9\t* * * ").as_str(), "0 9 * * *");
}

#[test]
fn a_timing_says_which_of_its_parts_is_wrong() {
    let bad = |cron: &str, zone: &str, window: &str| {
        let error = Timing::parse(cron, Some(zone), Some(window)).unwrap_err();
        (error.field, error.message)
    };
    assert_eq!(bad("x", "UTC", "5m").0, "cron");
    let (field, message) = bad("* * * * *", "Mars/Olympus", "5m");
    assert!(field == "timezone" && message.contains("Mars/Olympus") && message.contains("Europe/Berlin"), "{message}");
    for window in ["", "m", "5", "05m", "1.5h", "-5m", "25h", "1441m", "101%", "5s", "1h30m", "99999999999m", "é", "5é"] {
        assert_eq!(bad("* * * * *", "UTC", window).0, "window", "{window}");
    }
    for (window, shown) in [("0m", "0m"), ("30m", "30m"), ("120m", "2h"), ("24h", "24h"), ("0%", "0%"), ("100%", "100%")] {
        assert_eq!(window.parse::<Window>().unwrap().to_string(), shown);
    }
    assert_eq!(Timing::parse("* * * * *", None, None).unwrap().zone, Tz::UTC);
}

fn id(share: f64) -> ScheduleId {
    Id::from_uuid(Uuid::from_u128((share * (f64::from(u32::MAX) + 1.0)) as u128))
}

#[test]
fn a_window_spreads_schedules_and_ends_before_the_next_time() {
    let due = |cron: &str, window: &str, share: f64| {
        let timing = Timing::parse(cron, None, Some(window)).unwrap();
        let next = timing.next(id(share), at("2026-01-15T12:00:30Z")).unwrap();
        (next.due_at - next.at).num_seconds()
    };
    assert_eq!(due("0 * * * *", "0m", 0.9), 0);
    assert_eq!(due("0 0 * * *", "30m", 0.5), 15 * 60);
    assert_eq!(due("0 0 * * *", "24h", 0.25), 6 * 3600);
    assert_eq!(due("*/15 * * * *", "2h", 0.5), 450, "never beyond the next");
    assert_eq!(due("0 * * * *", "50%", 0.5), 15 * 60);
    assert_eq!(due("0 * * * *", "100%", 0.999), 3596);
}

#[test]
fn after_downtime_only_the_newest_is_fired_and_only_if_it_is_not_late() {
    let hourly = Timing::parse("0 * * * *", None, None).unwrap();
    let minutely = Timing::parse("* * * * *", None, None).unwrap();
    let due = |timing: &Timing, expected: &str, now: &str| {
        let due = timing.due(id(0.0), at(expected), at(now));
        let text =
            |occurrence: Option<Occurrence>| occurrence.map(|it| it.at.format("%d. %H:%M").to_string()).unwrap_or_default();
        (text(due.now), text(due.next))
    };
    let said = |now: &str, next: &str| (now.to_owned(), next.to_owned());
    assert_eq!(due(&hourly, "2026-01-15T12:00:00Z", "2026-01-15T12:00:00.005Z"), said("15. 12:00", "15. 13:00"));
    assert_eq!(due(&hourly, "2026-01-15T12:00:00Z", "2026-01-15T12:10:00Z"), said("15. 12:00", "15. 13:00"));
    assert_eq!(due(&hourly, "2026-01-15T12:00:00Z", "2026-01-15T12:10:01Z"), said("", "15. 13:00"));
    assert_eq!(due(&hourly, "2026-01-15T12:00:00Z", "2026-01-16T18:05:00Z"), said("16. 18:00", "16. 19:00"));
    assert_eq!(due(&minutely, "2026-01-15T12:00:00Z", "2026-01-15T12:07:30Z"), said("15. 12:07", "15. 12:08"));
    assert_eq!(due(&minutely, "2026-01-15T12:00:00Z", "2027-01-15T12:07:30Z"), said("15. 12:07", "15. 12:08"));
    assert_eq!(due(&hourly, "2026-01-15T13:00:00Z", "2026-01-15T12:30:00Z"), said("", "15. 13:00"), "not its time yet");

    let spread = Timing::parse("0 0 * * *", None, Some("24h")).unwrap();
    let late = spread.due(id(0.5), at("2026-01-15T00:00:00Z"), at("2026-01-15T12:05:00Z"));
    assert_eq!(late.now.map(|it| it.at), Some(at("2026-01-15T00:00:00Z")), "it was due five minutes ago");
    let missed = spread.due(id(0.5), at("2026-01-12T00:00:00Z"), at("2026-01-15T13:00:00Z"));
    assert_eq!((missed.now, missed.next.map(|it| it.at)), (None, Some(at("2026-01-16T00:00:00Z"))));
}

#[test]
fn a_run_is_told_dates_that_superjson_understands() {
    let schedule = Schedule {
        id: ScheduleId::new(),
        kind: ScheduleKind::Imperative,
        environment: EnvironmentId::new(),
        task: "report".into(),
        deduplication_key: Some("k".into()),
        external_id: Some("user_1".into()),
        timing: Timing::parse("0 9 * * *", Some("Europe/Berlin"), None).unwrap(),
        is_active: true,
        next: None,
        last_run_at: Some(at("2026-01-14T08:00:00Z")),
    };
    let packet = schedule.event(at("2026-01-15T08:00:00Z"));
    assert_eq!(packet.content_type, SUPER_JSON);
    let value: Value = serde_json::from_slice(&packet.data).unwrap();
    let (event, dates) = (&value["json"], &value["meta"]["values"]);
    assert_eq!(event["scheduleId"], json!(schedule.id));
    assert_eq!((&event["type"], &event["timezone"]), (&json!("IMPERATIVE"), &json!("Europe/Berlin")));
    assert_eq!((&event["timestamp"], &event["externalId"]), (&json!("2026-01-15T08:00:00.000Z"), &json!("user_1")));
    assert_eq!(event["lastTimestamp"], "2026-01-14T08:00:00.000Z");
    assert_eq!(event["upcoming"].as_array().unwrap().len(), UPCOMING);
    assert_eq!(event["upcoming"][0], "2026-01-16T08:00:00.000Z");
    for path in ["timestamp", "lastTimestamp", "upcoming.0", "upcoming.9"] {
        assert_eq!(dates[path], json!(["Date"]), "{path}");
    }
    assert_eq!(dates.as_object().unwrap().len(), UPCOMING + 2);

    let first = Schedule { last_run_at: None, external_id: None, ..schedule }.event(at("2026-01-15T08:00:00Z"));
    let value = first.to_plain_json().unwrap();
    assert!(value.get("lastTimestamp").is_none() && value.get("externalId").is_none(), "left out, not null: {value}");
}

/// A list of numbers, ranges and steps, or a star; never all the numbers, which other programs do not take for a star.
fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
    let range = move || (least..=most, least..=most).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let item = prop_oneof![
        4 => (least..=most).prop_map(|number| number.to_string()),
        2 => range().prop_map(|(from, to)| format!("{from}-{to}")),
        1 => (range(), 1..=most).prop_map(|((from, to), step)| format!("{from}-{to}/{step}")),
    ];
    let list = proptest::collection::vec(item, 1..4).prop_map(|items| items.join(","));
    let chooses = move |text: &String| (least..=most).any(|number| !names(text, number));
    let step = (2..=most).prop_map(|step| format!("*/{step}"));
    prop_oneof![2 => Just("*".to_owned()), 1 => step, 4 => list.prop_filter("chooses", chooses)]
}

fn names(list: &str, number: u32) -> bool {
    list.split(',').any(|item| {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to): (u32, u32) = (from.parse().unwrap(), to.parse().unwrap());
        (from..=to).contains(&number) && (number - from).is_multiple_of(step.parse().unwrap())
    })
}

/// Minute, hour and the three others.
fn expression() -> impl Strategy<Value = (String, String, String)> {
    let day = prop_oneof![4 => field(1, 31), 1 => Just("L".to_owned())];
    let weekday = prop_oneof![4 => field(0, 6), 1 => (1..=6u32).prop_map(|day| format!("{day}L"))];
    let days = (day, field(1, 12), weekday).prop_map(|(day, month, weekday)| format!("{day} {month} {weekday}"));
    (field(0, 59), prop_oneof![Just("*".to_owned()), field(0, 23)], days)
}

fn zone() -> impl Strategy<Value = Tz> {
    use Tz::*;
    let odd = vec![
        America__New_York,
        America__Havana,
        America__Santiago,
        Europe__Dublin,
        Australia__Lord_Howe,
        Antarctica__Troll,
        Africa__Casablanca,
        Asia__Beirut,
    ];
    prop_oneof![proptest::sample::select(&TZ_VARIANTS[..]), proptest::sample::select(odd)]
}

/// The next time that the zone's clocks are changed, to the hour, or else the same time.
fn next_change(zone: Tz, from: DateTime<Utc>) -> DateTime<Utc> {
    let offset = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local() - at.naive_utc();
    let hours = (0..400 * 24).map(|hours| from + TimeDelta::hours(hours));
    hours.into_iter().find(|at| offset(*at) != offset(*at + TimeDelta::hours(1))).unwrap_or(from)
}

/// What another implementation says comes next. It goes by the wall clock for one time a day only, so any other expression that
/// does is asked about as all of its times, one by one.
fn expected(zone: Tz, (minute, hour, days): &(String, String, String), after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let ask = |text: String| {
        let cron: Cron = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let next = cron.find_next_occurrence(&after.with_timezone(&zone), false);
        next.ok().map(|at| at.to_utc())
    };
    if hour == "*" {
        return ask(format!("{minute} {hour} {days}"));
    }
    let numbers = |text: &str, most: u32| {
        let text = if text.starts_with('*') { text.replacen('*', &format!("0-{most}"), 1) } else { text.to_owned() };
        (0..=most).filter(move |number| names(&text, *number)).collect::<Vec<_>>()
    };
    let minutes = numbers(minute, 59);
    let times = numbers(hour, 23).into_iter().flat_map(|hour| minutes.iter().map(move |minute| (*minute, hour)));
    times.filter_map(|(minute, hour)| ask(format!("{minute} {hour} {days}"))).min()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn expressions_fire_when_another_implementation_says(
        parts in expression(),
        zone in zone(),
        seconds in 1_577_836_800i64..2_082_758_400,
        near_a_change in any::<bool>(),
        minutes_before in -180i64..1800,
    ) {
        let (minute, hour, days) = &parts;
        let Ok(expression) = format!("{minute} {hour} {days}").parse::<CronExpr>() else {
            return Ok(());
        };
        let mut now = Utc.timestamp_opt(seconds, 0).unwrap();
        if near_a_change {
            now = next_change(zone, now) - TimeDelta::minutes(minutes_before);
        }
        for _ in 0..3 {
            let Some(next) = expression.next_after(zone, now) else { break };
            prop_assert!(next > now);
            prop_assert_eq!(Some(next), expected(zone, &parts, now), "{} in {} after {}", expression, zone, now);
            now = next;
        }
    }

    #[test]
    fn any_text_is_an_expression_or_refused(text in "[0-9a-zA-Z*/,?#@ é-]{0,40}") {
        if let Ok(expression) = text.parse::<CronExpr>() {
            prop_assert!(!expression.description().is_empty());
            prop_assert!(expression.next_after(Tz::UTC, at("2026-01-15T12:00:00Z")).is_some());
        }
    }
}
