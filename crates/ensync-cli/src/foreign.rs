//! Text that is not the program's own: what others wrote is printed so that it does nothing to a terminal, and what may hold a
//! secret is printed without it.

use std::ops::Range;

use ensync_sdk::AppId;
use ensync_sdk::core::{AppKey, SecretKey, is_unprintable};

pub(crate) use ensync_sdk::core::printable;

/// What the keys and tokens of an EnSync engine begin with.
const ISSUED: [&str; 2] = [AppKey::PREFIX, "ensync_admin_"];
/// What a private key in a PEM file begins and ends with.
const PEM: (&str, &str) = ("-----BEGIN ", "-----END ");

/// JSON, for a terminal too: what would do something there is escaped, which changes no value. Such characters are in strings
/// only, but for white space, which stays.
pub(crate) fn json(text: &str) -> String {
    let unsafe_here = |c: char| is_unprintable(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(unsafe_here) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if unsafe_here(c) { safe.push_str(&format!("\\u{:04x}", u32::from(c))) } else { safe.push(c) }
    }
    safe
}

/// An error or a warning as it is printed: each line [`printable`], and without [secrets](redacted).
pub(crate) fn message(text: &str) -> String {
    redacted(text).lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// White space and byte order marks around a value, which editors and shells leave, left out.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// The secret in a text, if one is seen: a secret key, a seed, an access key, an admin token, a private key in PEM. Of 32 bytes in
/// base64 those are taken for a seed that are no app's id, which is 15 of 16 seeds.
pub(crate) fn secret_in(text: &str) -> Option<&'static str> {
    if find(text, false).is_some() {
        return Some(kind(text));
    }
    // A key that was wrapped, or copied with its line break.
    let joined: String = text.split_whitespace().collect();
    (joined.len() != text.len() && find(&joined, false).is_some()).then(|| kind(&joined))
}

fn kind(text: &str) -> &'static str {
    if text.contains(PEM.0) {
        "a private key"
    } else if ISSUED.iter().any(|prefix| text.contains(prefix)) {
        "a key or token of an engine"
    } else {
        "a secret key"
    }
}

/// A text without the secrets in it.
pub(crate) fn redacted(text: &str) -> String {
    without(text, false)
}

/// A text without anything that could be a key, public ones included: for what somebody typed where it has no meaning.
pub(crate) fn redacted_strictly(text: &str) -> String {
    without(text, true)
}

fn without(text: &str, strict: bool) -> String {
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(found) = find(rest, strict) {
        clean.push_str(rest.get(..found.start).unwrap_or_default());
        clean.push_str("(not shown: a key)");
        rest = rest.get(found.end..).unwrap_or_default();
    }
    clean.push_str(rest);
    clean
}

/// Where the first secret is.
fn find(text: &str, strict: bool) -> Option<Range<usize>> {
    let pem = text.find(PEM.0).map(|start| {
        let end = text.rfind(PEM.1).filter(|end| *end > start).and_then(|end| {
            let line = text.get(end + PEM.1.len()..)?;
            Some(end + PEM.1.len() + line.find("-----").map_or(line.len(), |at| at + 5))
        });
        start..end.unwrap_or(text.len())
    });
    let issued = ISSUED.iter().filter_map(|prefix| {
        let start = text.find(prefix)?;
        let rest = text.get(start..)?;
        let end = rest.find(|c: char| !c.is_ascii_graphic() || "'\",;".contains(c)).unwrap_or(rest.len());
        Some(start..start + end)
    });
    let found = [pem, SecretKey::find_in(text), find_32_bytes(text, strict)];
    found.into_iter().flatten().chain(issued).min_by_key(|found| found.start)
}

/// 32 bytes in base64 that stand for themselves: a run of base64's characters, or what is behind its last slash or hyphens.
fn find_32_bytes(text: &str, strict: bool) -> Option<Range<usize>> {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/-_".contains(c);
    let mut at = 0;
    while let Some(start) = text.get(at..)?.find(is_base64).map(|found| at + found) {
        let rest = text.get(start..)?;
        let length = rest.find(|c| !is_base64(c)).unwrap_or(rest.len());
        let padding = rest.get(length..)?.chars().take(2).take_while(|c| *c == '=').count();
        at = start + length + padding;
        let run = text.get(start..at)?;
        let begins = run
            .char_indices()
            .filter(|(begin, _)| *begin == 0 || run.get(..*begin).is_some_and(|before| before.ends_with(['/', '-'])));
        for (begin, _) in begins.filter(|(begin, _)| matches!(run.len() - begin, 43 | 44)) {
            let Some(id) = run.get(begin..).and_then(|part| AppId::parse(part).ok()) else { continue };
            let mixed = |part: &str| {
                part.contains(|c: char| c.is_ascii_uppercase()) && part.contains(|c: char| c.is_ascii_lowercase())
            };
            if run.get(begin..).is_some_and(mixed) && (strict || id.check().is_err()) {
                return Some(start + begin..at);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed that is no app's id.
    const SEED: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB0=";
    const ID: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";
    const SECRET: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03w==";

    #[test]
    fn what_others_wrote_does_nothing_to_a_terminal() {
        assert_eq!(json("{\"a\":\"\u{202e}\u{9b}\u{7f}é\"}\n"), "{\"a\":\"\\u202e\\u009b\\u007fé\"}\n");
        assert_eq!(message("a\u{1b}[2J\nb\u{2028}c"), "a\u{fffd}[2J\nb\u{fffd}c");
    }

    #[test]
    fn secrets_are_seen_wherever_they_stand() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
        for secret in [SEED, SECRET, "ensync_key_abc", "ensync_admin_abc", pem] {
            for text in [
                secret.to_owned(),
                format!(" {secret}\n"),
                format!("--to={secret}"),
                format!("k={secret}"),
                format!("--{secret}"),
                format!("/home/{secret}"),
                format!("cannot read '{secret}': no such file"),
            ] {
                assert!(secret_in(&text).is_some(), "{text}");
                let clean = redacted(&text);
                assert!(!clean.contains(secret.trim_end()) && !clean.contains("MC4CAQ"), "{clean}");
                assert!(clean.contains("not shown"), "{clean}");
            }
        }
        let (first, second) = SECRET.split_at(64);
        assert!(secret_in(&format!("{first}\n{second}\n")).is_some(), "wrapped");
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for text in
            [ID, "", "no app has the name \"warehouse\"", "/a/path/that/is/as/long/as/a/key/is/in/base/64", "a=b=="]
        {
            assert_eq!((secret_in(text), redacted(text).as_str()), (None, text));
        }
        assert!(!redacted_strictly(&format!("unexpected argument '{ID}'")).contains(ID));
    }
}
