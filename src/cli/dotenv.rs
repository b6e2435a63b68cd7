//! Reads `.env` files: `NAME=value` in lines, with `#` for comments and quotes for what has line breaks. Nothing is put in place of
//! `$NAME`: a value is what is written.

/// The variables of a file, in its order.
///
/// # Errors
/// The line that cannot be understood, and why.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    // An editor on Windows may have begun the file with a mark.
    let mut rest = text.trim_start_matches('\u{feff}');
    let mut line = 1;
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = first.trim_start();
        if trimmed.trim().is_empty() || trimmed.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let at = |what: &str| format!("line {line}: {what}");
        let entry = &rest[first.len() - trimmed.len()..];
        let entry = entry.strip_prefix("export ").unwrap_or(entry);
        let name_ends = entry.find(['=', '\n']).filter(|end| entry.as_bytes()[*end] == b'=');
        let (name, value) = entry.split_at(name_ends.ok_or_else(|| at("write NAME=value"))?);
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(at(&format!("{name:?} is not a name: write letters, digits and underscores")));
        }
        let value = value[1..].trim_start_matches([' ', '\t']);
        let (value, after) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted(&value[1..], quote).ok_or_else(|| at("the quotes are not closed"))?,
            _ => plain(value),
        };
        let (left, next) = after.split_once('\n').unwrap_or((after, ""));
        let left = left.trim();
        if !left.is_empty() && !left.starts_with('#') {
            return Err(at("there is more after the closing quotes"));
        }
        variables.push((name.to_owned(), value));
        line += rest[..rest.len() - next.len()].matches('\n').count();
        rest = next;
    }
    Ok(variables)
}

/// What is between quotes, and what follows them.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Some((value, &text[at + 1..])),
            '\\' if quote == '"' => match letters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                same @ ('"' | '\\' | '$') => value.push(same),
                other => value.extend(['\\', other]),
            },
            _ => value.push(letter),
        }
    }
    None
}

/// A value without quotes, and what follows its line.
fn plain(text: &str) -> (String, &str) {
    let end = text.find('\n').unwrap_or(text.len());
    let line = &text[..end];
    let comment = [" #", "\t#"].iter().filter_map(|mark| line.find(mark)).min();
    let value = if line.starts_with('#') { "" } else { &line[..comment.unwrap_or(line.len())] };
    (value.trim_end().to_owned(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_it_is_written() {
        let text = "\u{feff}# a comment\r\nA=1\r\n\n  export B = two words # not this\nC=\nD='single \"$A\\n'\nE=\"line\\none\nline \\\"two\\\" $A\" # and this\nF=a#b\nG=#nothing\nH=\"x\"";
        let read = parse(text).unwrap();
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", ""),
            ("D", "single \"$A\\n"),
            ("E", "line\none\nline \"two\" $A"),
            ("F", "a#b"),
            ("G", ""),
            ("H", "x"),
        ];
        let read: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, expected);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_line_that_cannot_be_understood_is_named() {
        for (text, line) in [
            ("A=1\nB", "line 2: write"),
            ("\n\nA B=1", "line 3: \"A B\""),
            ("A=\"a\nb\"\nC='x", "line 3: the quotes"),
            ("A='a'b", "line 1: there is more"),
            ("=1", "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(line), "{text:?}: {error}");
        }
    }
}
