use ensync_core::{
    Delivery, ErrorKind, Given, Redact, SecretKey, perhaps_secret_in, redacted, redacted_head, secret_in,
};

use super::{MAX_MESSAGE, check_refusal};

/// Takes the input for a text that is printed, and for an event's record.
pub fn secrets(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let certain = secret_in(text);
    if certain.is_some() {
        assert!(perhaps_secret_in(text).is_some(), "{text}");
    }
    if let Some(found) = SecretKey::find_in(text) {
        assert!(text.get(found).is_some_and(|found| found.len() >= 86));
    }
    for what in [Redact::Secrets, Redact::Hex, Redact::Keys] {
        let clean = redacted(text, what);
        assert!(clean.len() <= 3 * text.len() + MAX_MESSAGE, "{} of {}", clean.len(), text.len());
        assert_eq!(secret_in(&clean), None, "{what:?}: {clean}");
        let head = redacted_head(text, what, text.len() / 2);
        assert_eq!(secret_in(&head), None, "{what:?}: {head}");
    }
    assert!(Given(text).to_string().len() <= MAX_MESSAGE);
    let asked = ("a/b".parse().unwrap(), "e-1".parse().unwrap());
    for asked in [None, Some((&asked.0, &asked.1))] {
        match Delivery::from_record(text, asked) {
            Ok(delivery) => assert!(!delivery.event.as_str().is_empty() && !delivery.id.as_str().is_empty()),
            Err(error) => check_refusal(&error, &[ErrorKind::Protocol]),
        }
    }
    certain.is_some()
}
