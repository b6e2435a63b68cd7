//! Says in English what a cron expression means. Source: facts J10.

use super::{
    cron::Fields,
    field::{Field, Set},
};

/// Most times of a day that are written out.
const MAX_TIMES: usize = 4;
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// `Every 15 minutes during hours 9 through 17, Monday through Friday, in July`.
pub(super) fn sentence(fields: &Fields) -> String {
    let parts = [Some(times(fields.minute, fields.hour)), days(fields.day, fields.weekday), months(fields.month)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn times(minute: Field, hour: Field) -> String {
    if !hour.is_any && minute.numbers.len() * hour.numbers.len() <= MAX_TIMES {
        let times = hour.numbers.numbers().flat_map(|hour| minute.numbers.numbers().map(move |minute| (hour, minute)));
        let times: Vec<String> = times.map(|(hour, minute)| format!("{hour:02}:{minute:02}")).collect();
        return format!("At {}", enumeration(&times));
    }
    let on_the_hour = minute.numbers.len() == 1 && minute.numbers.contains(0);
    let minutes = match every(minute.numbers, 60) {
        Some(1) => "Every minute".to_owned(),
        Some(step) => format!("Every {step} minutes"),
        None if minute.numbers.len() == 1 && minute.numbers.contains(1) => "At 1 minute".into(),
        None => format!("At {} minutes", list(minute.numbers, |minute| minute.to_string())),
    };
    let is_stepped = every(minute.numbers, 60).is_some();
    match every(hour.numbers, 24) {
        Some(1) if is_stepped => minutes,
        Some(1) if on_the_hour => "Every hour".into(),
        Some(1) => format!("{minutes} past every hour"),
        Some(step) if on_the_hour => format!("Every {step} hours"),
        Some(step) if !is_stepped => format!("{minutes} past every {} hour", ordinal(step)),
        _ => {
            let hours = list(hour.numbers, |hour| hour.to_string());
            let noun = if hour.numbers.len() == 1 { "hour" } else { "hours" };
            format!("{minutes} {} {noun} {hours}", if is_stepped { "during" } else { "past" })
        }
    }
}

fn days(day: Field, weekday: Field) -> Option<String> {
    let mut ways = Vec::new();
    if !day.is_any {
        if !day.numbers.is_empty() {
            let noun = if day.numbers.len() == 1 { "day" } else { "days" };
            ways.push(format!("on {noun} {} of the month", list(day.numbers, |day| day.to_string())));
        }
        if day.last_day {
            ways.push("on the last day of the month".into());
        }
    }
    if !weekday.is_any {
        // From Monday on, so that a weekend is one piece.
        let from_monday = |set: Set| (1..=7).filter(move |day| set.contains(day % 7));
        let name = |day: u32| WEEKDAYS[day as usize % 7].to_owned();
        if !weekday.numbers.is_empty() {
            let names = ranges(from_monday(weekday.numbers), name);
            let preposition = if weekday.numbers.len() > 2 && ways.is_empty() && names.len() == 1 { "" } else { "on " };
            ways.push(format!("{preposition}{}", enumeration(&names)));
        }
        if !weekday.last_weekdays.is_empty() {
            let names: Vec<String> = from_monday(weekday.last_weekdays).map(name).collect();
            ways.push(format!("on the last {} of the month", enumeration(&names)));
        }
    }
    (!ways.is_empty()).then(|| ways.join(" or "))
}

fn months(month: Field) -> Option<String> {
    (!month.is_any).then(|| format!("in {}", list(month.numbers, |month| MONTHS[month as usize - 1].to_owned())))
}

/// The step, if the numbers are all those below `end` that it reaches from zero, and it divides `end`.
fn every(numbers: Set, end: u32) -> Option<u32> {
    let step = end.checked_div(numbers.len() as u32)?;
    let is_even = step > 0 && end.is_multiple_of(step) && step < end;
    (is_even && numbers.numbers().eq((0..end).step_by(step as usize))).then_some(step)
}

fn list(numbers: Set, name: impl Fn(u32) -> String) -> String {
    enumeration(&ranges(numbers.numbers(), name))
}

/// Three and more in a row become `9 through 17`.
fn ranges(numbers: impl Iterator<Item = u32>, name: impl Fn(u32) -> String) -> Vec<String> {
    let mut rows: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match rows.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => rows.push((number, number)),
        }
    }
    rows.into_iter()
        .flat_map(|(first, last)| match last - first {
            0 => vec![name(first)],
            1 => vec![name(first), name(last)],
            _ => vec![format!("{} through {}", name(first), name(last))],
        })
        .collect()
}

/// `a, b and c`.
fn enumeration(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn ordinal(number: u32) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

#[cfg(test)]
mod tests {
    use crate::model::schedule::CronExpr;

    #[test]
    fn an_expression_is_said_in_words() {
        for (text, words) in [
            ("* * * * *", "Every minute"),
            ("*/5 * * * *", "Every 5 minutes"),
            ("0 * * * *", "Every hour"),
            ("30 * * * *", "At 30 minutes past every hour"),
            ("1 * * * *", "At 1 minute past every hour"),
            ("5,35 * * * *", "At 5 and 35 minutes past every hour"),
            ("*/7 * * * *", "At 0, 7, 14, 21, 28, 35, 42, 49 and 56 minutes past every hour"),
            ("0 */2 * * *", "Every 2 hours"),
            ("15 */3 * * *", "At 15 minutes past every 3rd hour"),
            ("* 3 * * *", "Every minute during hour 3"),
            ("*/15 9-17 * * 1-5", "Every 15 minutes during hours 9 through 17, Monday through Friday"),
            ("0 9-17 * * *", "At 0 minutes past hours 9 through 17"),
            ("0 9 * * *", "At 09:00"),
            ("0 0 * * *", "At 00:00"),
            ("0,30 9,17 * * *", "At 09:00, 09:30, 17:00 and 17:30"),
            ("0 9 * * 1-5", "At 09:00, Monday through Friday"),
            ("0 9 * * 6,0", "At 09:00, on Saturday and Sunday"),
            ("0 9 * * 1,3", "At 09:00, on Monday and Wednesday"),
            ("0 9 1,15 * *", "At 09:00, on days 1 and 15 of the month"),
            ("0 0 L * *", "At 00:00, on the last day of the month"),
            ("0 9 * * 5L", "At 09:00, on the last Friday of the month"),
            ("0 0 13 * 5", "At 00:00, on day 13 of the month or on Friday"),
            ("0 0 13 * 1-5", "At 00:00, on day 13 of the month or on Monday through Friday"),
            ("0 0 1 1 *", "At 00:00, on day 1 of the month, in January"),
            ("0 0 1 1,4-7,10 *", "At 00:00, on day 1 of the month, in January, April through July and October"),
        ] {
            assert_eq!(text.parse::<CronExpr>().unwrap().description(), words, "{text}");
        }
    }
}
