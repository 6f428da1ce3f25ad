//! Values of arguments and of standard input, read alike by every command.

use ensync_sdk::core::WirePayload;
use ensync_sdk::crypto::inspect;
use ensync_sdk::{AppId, Error};

use crate::exit::Problem;
use crate::foreign::trimmed;

/// An app id that something can be sealed for, white space around it aside.
pub(crate) fn app_id(text: &str) -> Result<AppId, Error> {
    let id = AppId::parse(trimmed(text))?;
    id.check()?;
    Ok(id)
}

/// Whom something is for. One that is named twice is one.
pub(crate) fn recipients(texts: &[String]) -> Result<Vec<AppId>, Problem> {
    let mut ids = Vec::new();
    for text in texts {
        let id = app_id(text).map_err(|error| Problem::at("--to", &error))?;
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
