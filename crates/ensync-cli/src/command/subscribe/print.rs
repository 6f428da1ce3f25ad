//! An event as it is printed.

use std::time::{Duration, UNIX_EPOCH};

use ensync_sdk::{Error, Event};
use serde_json::{Value, json};

use super::Format;
use crate::foreign::{self, printable};

/// The payload's text, or why there is none.
pub(in crate::command) type Opened<'a> = Result<&'a str, Error>;

/// The lines of an event.
pub(in crate::command) fn lines(event: &Event, opened: &Opened<'_>, format: Format, colours: bool) -> String {
    match (format, opened) {
        (Format::Ndjson, _) => ndjson(event, opened),
        (Format::Raw, Ok(payload)) => one_line(payload),
        // What is no payload does not belong among payloads.
        (Format::Raw, Err(_)) => String::new(),
        (Format::Pretty, _) => pretty(event, opened, colours),
    }
}

fn pretty(event: &Event, opened: &Opened<'_>, colours: bool) -> String {
    let (bold, dim, plain) = if colours { ("\u{1b}[1m", "\u{1b}[2m", "\u{1b}[0m") } else { ("", "", "") };
    let mut about = vec![format!("{bold}{}{plain}{dim}", printable(event.name().as_str()))];
    let at = event.timestamp().and_then(|at| UNIX_EPOCH.checked_add(Duration::from_millis(at.as_millis())));
    about.extend(at.map(|at| humantime::format_rfc3339_millis(at).to_string()));
    about.push(printable(event.id().as_str()).into_owned());
    if let Some(sender) = event.sender().app_id() {
        let proven = if event.sender().verified().is_some() { "verified" } else { "not verified" };
        about.push(format!("from {sender} ({proven})"));
    }
    about.extend(event.attempt().filter(|attempt| *attempt > 1).map(|attempt| format!("delivered {attempt} times")));
    let payload = match opened {
        Ok(payload) => foreign::json(payload),
        Err(error) => format!("cannot be opened: {}", foreign::message(&ensync_sdk::core::report(error))),
    };
    format!("{}{plain}\n{payload}\n", about.join("  "))
}

/// Payload and metadata stay the text they are: a number that no `f64` holds would change on the way through a `Value`.
fn ndjson(event: &Event, opened: &Opened<'_>) -> String {
    let known = json!({
        "name": event.name().as_str(),
        "id": event.id().as_str(),
        "block": event.block().as_u64(),
        "timestamp": event.timestamp().map(|at| at.as_millis()),
        "sender": event.sender().app_id().map(|id| id.to_string()),
        "verified": event.sender().verified().is_some(),
        "attempt": event.attempt(),
    });
    let known = known.to_string();
    let metadata = one_line(event.metadata().as_str());
    let (key, value) = match opened {
        Ok(payload) => ("payload", one_line(payload)),
        Err(error) => ("error", foreign::json(&Value::from(ensync_sdk::core::report(error)).to_string())),
    };
    format!(r#"{},"metadata":{metadata},"{key}":{value}}}"#, known.trim_end_matches('}'))
}

/// Strings of JSON hold no line break as such, so these are white space between values.
pub(super) fn one_line(json: &str) -> String {
    foreign::json(json).replace(['\n', '\r'], " ")
}
