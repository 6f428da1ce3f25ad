//! What a shell reads: files of keys that are sourced, and commands that are repeated. Others choose names, and whoever answers in the
//! place of an engine chooses all of an answer, so nothing gets there but through here.

use std::borrow::Cow;

use crate::exit::Problem;

/// What may stand in a value as it is: it means nothing to a shell, nor to what else reads such files.
const PLAIN: &str = "+/=-_.";

/// Appends a line `NAME=VALUE`, for a value that is a key or an id: a shell takes it for nothing else.
///
/// # Errors
///
/// If the value has characters that no key has; it is not repeated.
pub(crate) fn assign(lines: &mut String, name: &str, value: &str) -> Result<(), Problem> {
    if value.is_empty() || !value.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c)) {
        return Err(Problem::usage(format!("{name} is empty, or has characters that no key has")));
    }
    lines.extend([name, "=", value, "\n"]);
    Ok(())
}

/// Appends a line that a shell does not carry out, with an app's name.
pub(crate) fn name_app(lines: &mut String, name: &str) {
    // As a literal: what would end the line is escaped.
    lines.push_str(&format!("# app {name:?}\n"));
}

/// A word as a shell takes it for one: names and paths may have letters that mean something there. Controls are left out: it is shown.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    if !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_./:@+=".contains(c)) {
        return Cow::Borrowed(text);
    }
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    Cow::Owned(format!("'{}'", text.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_value_or_refused() {
        let mut lines = String::new();
        for refused in [
            "", "a b", "a\nb", "$(id)", "`id`", "a;id", "'", "\"", "~", "a\u{1b}", "a#", "\\", "a&b", "é", "*",
            "{a,b}", "(", "!",
        ] {
            assert!(assign(&mut lines, "K", refused).is_err_and(|why| !why.to_string().contains("id")), "{refused:?}");
        }
        assert_eq!(lines, "");
        assign(&mut lines, "K", "ensync_key_q83v-A+/=").unwrap();
        name_app(&mut lines, "a\n$(id)\u{2028}\u{85}\r");
        assert_eq!(lines, "K=ensync_key_q83v-A+/=\n# app \"a\\n$(id)\\u{2028}\\u{85}\\r\"\n");
    }
}
