//! Reading a file: TOML, flattened to names of settings, each with its line.

use toml::de::{DeTable, DeValue};

use super::value::Raw;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Name of a setting, value, line.
    pub(super) values: Vec<(String, Raw, usize)>,
    /// What is not TOML: line, and why.
    pub(super) broken: Vec<(usize, String)>,
}

/// Reads all that can be read of it, and says what cannot.
pub(super) fn read(text: &str) -> File {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut file = File::default();
    for error in errors {
        file.broken.push((line(text, error.span().map_or(0, |span| span.start)), error.message().to_owned()));
    }
    flatten(text, "", table.get_ref(), &mut file.values);
    file.values.sort_by_key(|(_, _, line)| *line);
    file
}

fn flatten(text: &str, section: &str, table: &DeTable<'_>, values: &mut Vec<(String, Raw, usize)>) {
    for (key, value) in table {
        let name = if section.is_empty() { key.get_ref().to_string() } else { format!("{section}.{}", key.get_ref()) };
        match value.get_ref() {
            // Deeper than any setting is; how deep a file may nest is bounded by the parser.
            DeValue::Table(table) if section.is_empty() => flatten(text, &name, table, values),
            value => values.push((name, raw(value), line(text, key.span().start))),
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("number that is too large"), Raw::Integer),
        DeValue::Boolean(yes) => Raw::Boolean(*yes),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("number with a fraction"),
        DeValue::Datetime(_) => Raw::Other("date"),
        DeValue::Table(_) => Raw::Other("table"),
    }
}

/// The line of a byte, from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_comes_with_its_line() {
        let file = read("data = \"d\"\n\n[limits]\nmax_sessions = 0x10\nx = 1.5\n[tls]\nkey = [true, 1979-05-27]\n");
        assert!(file.broken.is_empty());
        let expected = [
            ("data", Raw::Text("d".into()), 1),
            ("limits.max_sessions", Raw::Integer(16), 4),
            ("limits.x", Raw::Other("number with a fraction"), 5),
            ("tls.key", Raw::List(vec![Raw::Boolean(true), Raw::Other("date")]), 7),
        ];
        assert_eq!(file.values, expected.map(|(name, raw, line)| (name.to_owned(), raw, line)));
        assert_eq!(read("a.b.c = 1").values, [("a.b".to_owned(), Raw::Other("table"), 1)]);
    }

    #[test]
    fn every_broken_line_is_named() {
        let file = read("a = 1\nb = \nc = 3\nd = {\n");
        let lines: Vec<_> = file.broken.iter().map(|(line, _)| *line).collect();
        assert!(lines.contains(&2) && lines.contains(&4), "{file:?}");
        assert!(file.values.iter().any(|(name, _, _)| name == "c"), "{file:?}");
        assert!(!read("a = 1\na = 2").broken.is_empty());
    }
}
