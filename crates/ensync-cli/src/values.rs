//! Values of arguments and of standard input, read alike by every command, and what is said of those that are refused.

use std::str::FromStr;
use std::time::Duration;

use ensync_sdk::AppId;
use ensync_sdk::core::{AppName, EventName, Given, WirePayload};
use ensync_sdk::crypto::inspect;

use crate::exit::Problem;
use crate::foreign::trimmed;

/// How many characters an app id has: 32 bytes in base64, with and without what fills them up, and some that were lost or doubled.
const ID_LENGTHS: std::ops::RangeInclusive<usize> = 40..=48;

/// A time, such as `30s`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let form = "write a time with its unit, such as 500ms, 30s, 10m, 12h or 7d";
    humantime::parse_duration(text.trim()).map_err(|_| form.to_owned())
}

/// A time that is longer than nothing.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("it has to be longer than nothing".to_owned()),
        time => Ok(time),
    }
}

/// A number that is not 0.
pub(crate) fn at_least_one<T: FromStr>(text: &str) -> Result<T, String> {
    whole(text, 1)
}

/// A number that may be 0.
pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    whole(text, 0)
}

fn whole<T: FromStr>(text: &str, least: u128) -> Result<T, String> {
    let text = text.trim();
    text.parse().map_err(|_| match text.parse::<u128>() {
        Ok(number) if number >= least => "this is too large a number".to_owned(),
        _ => format!("write a whole number, {least} or more"),
    })
}

/// A command for the shell. An empty one does nothing and exits with 0, which would be taken for work that was done.
pub(crate) fn shell_command(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty: name a command".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// An event name, as it is written.
pub(crate) fn event_name(text: &str) -> Result<String, ensync_sdk::Error> {
    EventName::parse(text).map(|name| name.to_string())
}

/// An app's name, as it is written.
pub(crate) fn app_name(text: &str) -> Result<String, ensync_sdk::Error> {
    AppName::parse(text).map(|name| name.as_str().to_owned())
}

/// An app id that something can be sealed for, white space around it aside.
pub(crate) fn app_id(text: &str) -> Result<AppId, Problem> {
    let text = trimmed(text);
    let read = AppId::parse(text).and_then(|id| id.check().map(|()| id));
    read.map_err(|error| match text {
        "" => Problem::usage("it is empty"),
        name if !ID_LENGTHS.contains(&name.len()) && AppName::parse(name).is_ok() => Problem::usage(format!(
            "{} is not an app id, which has 44 characters (base64); is it an app's name? `ensync app show NAME` tells its id",
            Given(name)
        )),
        _ => Problem::of(&error),
    })
}

/// Whom something is for. One that is named twice is one.
pub(crate) fn recipients(texts: &[String]) -> Result<Vec<AppId>, Problem> {
    let mut ids = Vec::new();
    for text in texts {
        let id = app_id(text).map_err(|problem| {
            let said = format!("--to: {problem}");
            problem.with_message(said)
        })?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// One envelope: base64 on one line, or wrapped as `base64` and mail programs do.
pub(crate) fn envelope(text: &str) -> Result<WirePayload, Problem> {
    let lines: Vec<_> = text.lines().map(trimmed).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [] => Err(Problem::usage("there is no envelope on standard input")),
        [line] => Ok(WirePayload::from_wire((*line).to_owned())),
        [first, ..] if inspect(&WirePayload::from_wire((*first).to_owned())).is_ok() => Err(Problem::usage(format!(
            "there are {} lines, and the first is an envelope of its own; give one at a time (`ensync encrypt` prints one a line \
             for each recipient)",
            lines.len()
        ))),
        lines => Ok(WirePayload::from_wire(lines.concat())),
    }
}

#[cfg(test)]
mod tests {
    use ensync_sdk::SecretKey;
    use ensync_sdk::crypto::{Recipient, seal};

    use super::*;

    #[test]
    fn ids_are_read_with_white_space_around_them_and_checked() {
        let id = SecretKey::from_seed([1; 32]).app_id().unwrap();
        for text in [format!("{id}"), format!(" {id}\r\n"), format!("\u{feff}{id}")] {
            assert_eq!(app_id(&text).unwrap(), id);
        }
        assert!(
            app_id("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap_err().to_string().contains("small order")
        );
    }

    #[test]
    fn what_is_refused_is_told_in_words_for_people() {
        for (text, part) in [
            ("", "it is empty"),
            (
                "billing",
                "\"billing\" is not an app id, which has 44 characters (base64); is it an app's name? `ensync app show",
            ),
        ] {
            let said = app_id(text).unwrap_err().to_string();
            assert!(said.contains(part), "{text}: {said:?}");
        }
        let said = recipients(&["billing".to_owned()]).unwrap_err().to_string();
        assert!(said.starts_with("--to: \"billing\""), "{said}");
        for wrong in ["foo", "", "-5s", "5"] {
            assert!(time(wrong).is_err_and(|said| said.contains("with its unit")), "{wrong}");
        }
        assert!(some_time("0s").is_err_and(|said| said.contains("longer")) && some_time("1ms").is_ok());
        for wrong in ["0", "-1", "x", ""] {
            assert_eq!(at_least_one::<std::num::NonZeroU32>(wrong), Err("write a whole number, 1 or more".to_owned()));
        }
        assert!(at_least_one::<std::num::NonZeroU32>("99999999999").is_err_and(|said| said.contains("too large")));
        assert_eq!(number::<u64>("abc"), Err("write a whole number, 0 or more".to_owned()));
        assert_eq!((number::<u64>("0"), time("90s")), (Ok(0), Ok(Duration::from_secs(90))));
    }

    #[test]
    fn an_envelope_may_be_wrapped_and_is_one() {
        let to = [1, 2].map(|n| Recipient::new(SecretKey::from_seed([n; 32]).app_id().unwrap()).unwrap());
        let [one] = seal(b"1", &to[..1]).unwrap().try_into().unwrap();
        let text = one.as_str().unwrap();
        let wrapped: String =
            text.as_bytes().chunks(76).map(|line| format!("{}\r\n", str::from_utf8(line).unwrap())).collect();
        for given in [text.to_owned(), format!("\u{feff}{text}\n\n"), wrapped] {
            assert_eq!(envelope(&given).unwrap(), one);
        }
        let error = envelope(&format!("{text}\n{text}\n")).unwrap_err().to_string();
        assert!(error.contains("2 lines"), "{error}");
        assert!(envelope(" \n").is_err());
    }
}
