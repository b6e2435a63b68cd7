//! One field of a cron expression: which numbers it names. Source: facts J1.

use super::cron::CronError;

/// What may stand in a field.
#[derive(Debug)]
pub(super) struct Kind {
    /// As messages call it.
    pub(super) name: &'static str,
    /// Smallest and largest number.
    pub(super) range: (u32, u32),
    /// Words for numbers, the first for the smallest.
    words: &'static [&'static str],
    /// What `L` means here.
    last: Last,
}

#[derive(Debug, PartialEq, Eq)]
enum Last {
    /// Nothing.
    No,
    /// `L`: the last day of the month.
    Day,
    /// `5L`: the last Friday of the month.
    Weekday,
}

pub(super) const MINUTE: Kind = Kind { name: "minute", range: (0, 59), words: &[], last: Last::No };
pub(super) const HOUR: Kind = Kind { name: "hour", range: (0, 23), words: &[], last: Last::No };
pub(super) const DAY: Kind = Kind { name: "day of month", range: (1, 31), words: &[], last: Last::Day };
pub(super) const MONTH: Kind = Kind {
    name: "month",
    range: (1, 12),
    words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    last: Last::No,
};
/// Sunday is 0 and 7 when it is read, and 0 from then on.
pub(super) const WEEKDAY: Kind = Kind { name: "day of week", range: (0, 7), words: &WEEKDAYS, last: Last::Weekday };
/// From Sunday, which is 0.
pub(super) const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A set of numbers below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Set(u64);

impl Set {
    fn add(&mut self, number: u32) {
        self.0 |= 1 << number;
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn contains(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }

    /// From the smallest to the largest.
    pub(super) fn numbers(self) -> impl Iterator<Item = u32> + Clone {
        (0..64).filter(move |number| self.contains(*number))
    }
}

/// What a field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Field {
    /// These numbers.
    pub(super) numbers: Set,
    /// In a day of month: the last day too.
    pub(super) last_day: bool,
    /// In a day of week: the last of these weekdays in the month too.
    pub(super) last_weekdays: Set,
    /// It names every number there is, so it does not choose.
    pub(super) is_any: bool,
}

impl Kind {
    /// Reads `*`, `?`, `5`, `MON-FRI`, `*/10`, `8-18/2`, `L`, `5L` and lists of them.
    pub(super) fn read(&self, text: &str) -> Result<Field, CronError> {
        let mut field = Field::default();
        for item in text.split(',') {
            self.read_item(item, &mut field)?;
        }
        field.is_any = field.numbers.len() >= self.count();
        Ok(field)
    }

    /// How many numbers there are; Sunday counts once.
    fn count(&self) -> usize {
        let (least, most) = self.range;
        (most - least + 1) as usize - usize::from(self.last == Last::Weekday)
    }

    fn read_item(&self, item: &str, field: &mut Field) -> Result<(), CronError> {
        if self.last == Last::Day && item.eq_ignore_ascii_case("L") {
            field.last_day = true;
            return Ok(());
        }
        if self.last == Last::Weekday
            && let Some(weekday) = item.strip_suffix(['L', 'l'])
        {
            field.last_weekdays.add(self.number(weekday)? % 7);
            return Ok(());
        }
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(self.step(step)?)),
        };
        let (from, to) = self.bounds(range, step.is_some())?;
        for number in (from..=to).step_by(step.unwrap_or(1)) {
            field.numbers.add(if self.last == Last::Weekday { number % 7 } else { number });
        }
        Ok(())
    }

    /// First and last number of a range. A single number with a step goes on to the largest.
    fn bounds(&self, range: &str, is_stepped: bool) -> Result<(u32, u32), CronError> {
        let (least, most) = self.range;
        if range == "*" || (range == "?" && self.last != Last::No) {
            // Without the second Sunday, or steps would count it.
            return Ok((least, if self.last == Last::Weekday { 6 } else { most }));
        }
        let Some((from, to)) = range.split_once('-') else {
            let from = self.number(range)?;
            return Ok((from, if is_stepped { most.max(from) } else { from }));
        };
        let (from, mut to) = (self.number(from)?, self.number(to)?);
        if self.last == Last::Weekday && to == 0 && from > 0 {
            to = 7;
        }
        if from > to {
            return Err(self.error(format!("{range:?} ends before it begins; write two ranges, such as 22-23,0-5")));
        }
        Ok((from, to))
    }

    fn step(&self, text: &str) -> Result<usize, CronError> {
        let step = digits(text).filter(|step| *step > 0);
        step.map(|step| step as usize).ok_or_else(|| self.error(format!("{text:?} is no step; write a whole number from 1")))
    }

    fn number(&self, text: &str) -> Result<u32, CronError> {
        let (least, most) = self.range;
        if let Some(place) = self.words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
            return Ok(least + place as u32);
        }
        digits(text).filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            let words = match self.words {
                [first, .., last] => format!(" or {first} to {last}"),
                _ => String::new(),
            };
            let last = match self.last {
                Last::No => "",
                Last::Day => "; L is the last day of the month",
                Last::Weekday => "; 5L is the last Friday of the month",
            };
            self.error(format!("{text:?} is not {least} to {most}{words}{last}"))
        })
    }

    fn error(&self, rule: String) -> CronError {
        CronError::Field { field: self.name, rule }
    }
}

fn digits(text: &str) -> Option<u32> {
    // The standard reader would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
