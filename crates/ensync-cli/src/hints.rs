//! What the libraries say, in the tool's words. They know of methods and of options; whoever reads it here has flags and commands.

use crate::shell;

/// What a message of theirs holds, and what is said in its place: of several that it holds, the first. `{}` is the word before.
const WORDS: [(&str, &str); 7] = [
    (
        "the app key is given to create_client, not in the URL",
        "the app key is given with --app-key, or in the variable ENSYNC_APP_KEY, and not in the URL",
    ),
    (
        " is not registered with this engine; register it",
        " is not registered with this engine; `ensync event create {}` registers it",
    ),
    (" is not registered; register it first", " is not registered; `ensync event create {}` registers it"),
    (" is not registered", " is not registered; `ensync event create {}` registers it"),
    (" is registered already", " is registered already; `ensync event update` changes it"),
    ("or say that two may have the same", "or add --same-name: then only ids tell the two apart"),
    (
        "but is no EnSync engine",
        "but serves no clients of EnSync; is it the port for administration, which is 50052 by default?",
    ),
];

/// A message of the libraries, as the tool says it.
pub(crate) fn reworded(text: &str) -> String {
    let text = without_repeats(text);
    let Some((at, theirs, ours)) = WORDS.iter().find_map(|(theirs, ours)| Some((text.find(theirs)?, *theirs, *ours)))
    else {
        return text;
    };
    let (before, rest) = text.split_at(at);
    let word = shell::word(before.split_whitespace().next_back().unwrap_or("NAME"));
    format!("{before}{}{}", ours.replace("{}", &word), rest.strip_prefix(theirs).unwrap_or(rest))
}

/// Says once where something happened: "publish a/b at URL: publish a/b: no" is "publish a/b at URL: no".
fn without_repeats(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in text.split(": ") {
        let repeats = kept.last().is_some_and(|last| {
            last.strip_prefix(part).is_some_and(|rest| rest.starts_with(" at ")) && part.contains(' ')
        });
        if !repeats {
            kept.push(part);
        }
    }
    kept.join(": ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_name_does_nothing_to_a_shell() {
        for (name, shown) in [
            ("a/b", "a/b"),
            ("a$(id)b", "'a$(id)b'"),
            ("a'b", "'a'\\''b'"),
            ("~a", "'~a'"),
            ("zamówienia|x", "'zamówienia|x'"),
        ] {
            let said = reworded(&format!("the event name {name} is not registered"));
            assert!(said.ends_with(&format!("`ensync event create {shown}` registers it")), "{said}");
        }
    }

    #[test]
    fn messages_name_commands_and_flags() {
        for (theirs, ours) in [
            (
                "publish a/b at grpc://h:1: publish a/b: the event name a/b is not registered with this engine; register it",
                "publish a/b at grpc://h:1: the event name a/b is not registered with this engine; `ensync event create a/b` \
                 registers it",
            ),
            (
                "the event name a/b is not registered; register it first",
                "the event name a/b is not registered; `ensync event create a/b` registers it",
            ),
            (
                "the event name a/b is not registered",
                "the event name a/b is not registered; `ensync event create a/b` registers it",
            ),
            (
                "an app has the name shop already; give this one another, or say that two may have the same",
                "an app has the name shop already; give this one another, or add --same-name: then only ids tell the two apart",
            ),
            ("line 3: a: a: b", "line 3: a: a: b"),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(reworded(theirs), ours);
        }
    }

    fn holds(folder: &Path, text: &str) -> bool {
        std::fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                holds(&path, text)
            } else {
                std::fs::read_to_string(path).is_ok_and(|code| code.contains(text))
            }
        })
    }

    /// What is reworded is said somewhere: who changes it there is told here.
    #[test]
    fn what_is_reworded_is_what_the_libraries_say() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (theirs, _) in WORDS {
            let said = ["ensync-core", "ensync-client", "ensync-engine", "ensync-grpc", "ensync-ws"]
                .iter()
                .any(|name| holds(&crates.join(name).join("src"), theirs));
            assert!(said, "nobody says {theirs:?}");
        }
    }
}
