//! Durations as people write them: `"250ms"`, `"1s"`, `"5m"`, `"1h30m"`, `"2d"`.

use std::iter::Peekable;
use std::str::Chars;

/// The text in milliseconds, or what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let mut chars = text.trim().chars().peekable();
    if chars.peek().is_none() {
        return Err("a duration is missing, e.g. \"30s\" or \"1h30m\"".into());
    }
    let mut total = 0u64;
    while chars.peek().is_some() {
        let amount = part(&mut chars, char::is_ascii_digit);
        let unit = part(&mut chars, char::is_ascii_alphabetic);
        let amount: u64 = amount.parse().map_err(|_| format!("`{text}` is not a duration such as \"30s\" or \"1h30m\""))?;
        let milliseconds = amount.checked_mul(unit_in_milliseconds(&unit)?);
        total = milliseconds.and_then(|ms| total.checked_add(ms)).ok_or_else(|| format!("`{text}` is too long"))?;
    }
    Ok(total)
}

fn part(chars: &mut Peekable<Chars<'_>>, belongs: impl Fn(&char) -> bool) -> String {
    std::iter::from_fn(|| chars.next_if(&belongs)).collect()
}

fn unit_in_milliseconds(unit: &str) -> Result<u64, String> {
    match unit {
        "ms" => Ok(1),
        "s" => Ok(1_000),
        "m" | "min" => Ok(60_000),
        "h" => Ok(3_600_000),
        "d" => Ok(86_400_000),
        "" => Err("a duration needs its unit: ms, s, m, h or d".into()),
        other => Err(format!("`{other}` is not a unit of time; there are ms, s, m, h and d")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_sums_of_amounts_with_units() {
        assert_eq!(parse("250ms"), Ok(250));
        assert_eq!(parse("1s"), Ok(1_000));
        assert_eq!(parse("1h30m"), Ok(5_400_000));
        assert_eq!(parse(" 2d "), Ok(172_800_000));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_reason() {
        for (text, reason) in [("", "missing"), ("5", "unit"), ("s", "not a duration"), ("5 weeks", "unit"), ("1.5s", "unit")] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(parse("99999999999999d").expect_err("overflow").contains("too long"));
    }
}
