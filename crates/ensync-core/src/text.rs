//! Text that somebody gave us: what of it may be shown, and what it must not be.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::redact::{Checks, ISSUED, certain, is_random, issued_in};
use crate::{Error, ErrorKind, encoding};

/// How many characters an error shows of what it was given.
const SHOWN: usize = 8;
/// How many bytes it looks at for that: more than any name or id has.
const GIVEN: usize = 600;
/// A text without what moves the cursor of a terminal, turns the direction of writing, or breaks the line: each such character
/// becomes U+FFFD, the replacement character.
///
/// For all that somebody else wrote, wherever people read it.
///
/// ```
/// assert_eq!(ensync_core::printable("paid\u{1b}[2J\n"), "paid\u{fffd}[2J\u{fffd}");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unprintable) {
        Cow::Owned(text.chars().map(|c| if is_unprintable(c) { char::REPLACEMENT_CHARACTER } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a character does something to a terminal or to the text around it: C0, DEL and C1 controls, the controls of
/// bidirectional writing (UAX #9 §2), line and paragraph separators.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character cannot be seen: those of [`is_unprintable`], and what Unicode 16 calls format characters (general category
/// Cf) or lets a renderer ignore (`Default_Ignorable_Code_Point`): zero-width ones, the byte order mark, fillers, tags; and the blank of Braille.
pub(crate) fn is_invisible(c: char) -> bool {
    is_unprintable(c)
        || (!c.is_ascii()
            && matches!(c,
                '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
                | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
                | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'))
}

/// A text that was refused, as the error shows it: its beginning in quotes, characters that cannot be seen escaped. Of what reads
/// as a key nothing is shown.
///
/// ```
/// use ensync_core::Given;
///
/// assert_eq!(Given("warehouse").to_string(), "\"warehous…\"");
/// assert_eq!(Given("oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=").to_string(), "(a key, which is not shown)");
/// ```
pub struct Given<'a>(pub &'a str);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever sent it chose how long it is.
        let head = self.0.get(..self.0.floor_char_boundary(GIVEN)).unwrap_or_default();
        if reads_as(head).is_some() || issued_in(head).next().is_some() || holds(head).is_some() {
            return f.write_str("(a key, which is not shown)");
        }
        if has_key_material(head) {
            return f.write_str("(not shown, for it may hold a key)");
        }
        f.write_str("\"")?;
        for c in self.0.chars().take(SHOWN) {
            escaped(c).try_for_each(|c| f.write_char(c))?;
        }
        f.write_str(if self.0.chars().nth(SHOWN).is_some() { "…\"" } else { "\"" })
    }
}

/// As `Display`: nothing more is shown anywhere.
impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A character that was refused, as the error shows it: in quotes, and escaped if it cannot be seen.
pub(crate) struct GivenChar(pub(crate) char);

impl fmt::Display for GivenChar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        escaped(self.0).try_for_each(|c| f.write_char(c))?;
        f.write_str("'")
    }
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    // `escape_debug` lets some pass that cannot be seen, such as fillers.
    let unseen = is_invisible(c) && !c.is_ascii();
    let (debug, unicode) = (c.escape_debug(), c.escape_unicode());
    debug.filter(move |_| !unseen).chain(unicode.filter(move |_| unseen))
}

/// The key or token that a text is, if it is one, white space around it aside.
pub(crate) fn reads_as(text: &str) -> Option<&'static str> {
    let text = trimmed(text);
    // In any case of letters: a host's name is read so.
    let begins = |prefix: &str| text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    if let Some((_, what)) = ISSUED.iter().find(|(prefix, _)| begins(prefix)) {
        return Some(what);
    }
    if !matches!(text.len(), 43 | 44 | 86..=88) {
        return None;
    }
    // A name of 43 letters is no key, and of four such names one is base64.
    let is_key = || text.ends_with('=') || is_random(text);
    match encoding::decode_secret(text)?.len() {
        32 if is_key() => Some("a key"),
        64 if is_key() => Some("a secret key"),
        _ => None,
    }
}

/// The secret key or token that a text holds for certain, if there is one. It costs a few multiplications on the curve, whatever its sender
/// chose: it is asked of each name and id in each command.
pub(crate) fn holds(text: &str) -> Option<&'static str> {
    certain(text, &mut Checks::of_a_name())
}

/// Whether a text has the letters and nearly the length of a key: of one that lost its last character, or gained one, or was mistyped.
pub(crate) fn is_nearly_a_key(text: &str) -> bool {
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/-_".contains(c);
    let Some(run) = text.split(|c| !base64(c)).max_by_key(|run| run.len()) else { return false };
    // 32 bytes have 43 letters, 64 have 86. Beside them there may be quotation marks, or what pads them.
    matches!(run.len(), 42..=44 | 85..=87) && text.len() - run.len() <= 4 && is_random(run)
}

/// Whether a part of a text is so long and so mixed, in the letters of base64 or hex, that it may be a part of a key.
fn has_key_material(text: &str) -> bool {
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/-_".contains(c);
    text.split(|c| !base64(c)).filter(|run| run.len() >= 40).any(|run| {
        let many = |is: fn(&u8) -> bool| run.bytes().filter(is).count() >= 4;
        let hex = run.len() >= 56 && run.bytes().all(|b| b.is_ascii_hexdigit());
        hex || (many(u8::is_ascii_uppercase) && many(u8::is_ascii_lowercase))
    })
}

/// Refuses what is or holds a key or a token where `wanted` belongs; the message shows nothing of it.
pub(crate) fn refuse_keys(text: &str, kind: ErrorKind, wanted: &str) -> Result<(), Error> {
    match reads_as(text) {
        None => match holds(text) {
            None => Ok(()),
            Some(what) => Err(Error::new(
                kind,
                format!("this holds {what}, which is no part of {wanted}; keep it on this machine"),
            )),
        },
        Some(what @ "a key") => {
            Err(Error::new(kind, format!("this is {what} (base64 of 32 bytes, and not shown), not {wanted}")))
        }
        Some(what) => Err(Error::new(kind, format!("this is {what}, not {wanted}; keep it on this machine"))),
    }
}

/// Refuses what is, holds or may be a key where a new name belongs; the message shows nothing of it.
pub(crate) fn refuse_keys_as_name(text: &str, kind: ErrorKind, wanted: &str) -> Result<(), Error> {
    refuse_keys(text, kind, wanted)?;
    if is_nearly_a_key(text) {
        let why = format!(
            "this could be a key (it has the letters and nearly the length of one, and is not shown), not {wanted}"
        );
        return Err(Error::new(kind, why));
    }
    Ok(())
}

/// A text without white space and byte order marks around it, which editors and shells leave.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::{CHECKED, LOOKED};
    use crate::{
        AppId, AppKey, AppName, ClientId, Endpoint, EventId, EventName, IdempotencyKey, Metadata, Schema, SecretKey,
    };

    /// Whoever sends a text chooses how long it is, and each place costs a microsecond.
    #[test]
    fn a_text_of_megabytes_is_refused_for_a_look_at_its_beginning() {
        for text in ["abCDefGH".repeat(250_000), "a".repeat(2_000_000), "/".repeat(2_000_000)] {
            let quoted = format!("{{\"f\":\"{text}\"}}");
            let parse: [(&str, &dyn Fn() -> Option<Error>); 9] = [
                ("event name", &|| EventName::parse(&text).err()),
                ("app name", &|| AppName::parse(&text).err()),
                ("event id", &|| EventId::parse(&text).err()),
                ("idempotency key", &|| IdempotencyKey::parse(&text).err()),
                ("client id", &|| ClientId::parse(&text).err()),
                ("app id", &|| AppId::parse(&text).err()),
                ("app key", &|| AppKey::parse(&text).err()),
                ("schema", &|| Schema::parse(&quoted).err()),
                ("URL", &|| Endpoint::parse(&text).err()),
            ];
            for (what, parse) in parse {
                LOOKED.set(0);
                assert!(parse().is_some(), "{what}");
                // A URL is the user's own.
                let most = if what == "URL" { 100_000 } else { 2_000 };
                assert!(LOOKED.get() <= most, "{what}: {} places", LOOKED.get());
            }
        }
    }

    /// Each candidate costs a multiplication on the curve, and each command has a name and ids.
    #[test]
    fn a_name_costs_a_few_multiplications_whatever_its_letters_are() {
        let shortest = ["AgQw", "AgQw/gQwA", "AgQw%41gQ", "AgQw%20gQ", "AgQw\\/gQw", "AgQw\\u0041gQ"];
        let texts = shortest.iter().flat_map(|part| [10, 22, 28, 63, 128, 150, 250, 1_000].map(|n| part.repeat(n)));
        for text in texts {
            let parse: [(&str, &dyn Fn() -> bool); 9] = [
                ("event name", &|| EventName::parse(&text).is_ok()),
                ("app name", &|| AppName::parse(&text).is_ok()),
                ("event id", &|| EventId::parse(&text).is_ok()),
                ("idempotency key", &|| IdempotencyKey::parse(&text).is_ok()),
                ("app id", &|| AppId::parse(&text).is_ok()),
                ("client id", &|| ClientId::parse(&text).is_ok()),
                ("received app key", &|| AppKey::parse_received(&text).is_ok()),
                ("metadata", &|| Metadata::parse(&format!("{{\"a\":{text:?}}}")).unwrap().secret().is_some()),
                ("given", &|| Given(&text).to_string().is_empty()),
            ];
            for (what, parse) in parse {
                CHECKED.set(0);
                // What is refused is looked at once more for what of it may be shown.
                let most = if parse() { 8 } else { 24 };
                assert!(CHECKED.get() <= most, "{what}: {}", CHECKED.get());
            }
        }
        // Where a word begins or ends is looked at before.
        let secret = SecretKey::from_seed([9; 32]).to_base64().unwrap();
        for text in [format!("{}/{}", "AgQw".repeat(40), &*secret), format!("{}{}", "AgQw".repeat(40), &secret[..86])] {
            assert!(EventName::parse(&text).is_err());
        }
    }

    #[test]
    fn what_cannot_be_seen_is_known() {
        for c in [
            '\0', '\x1b', '\x7f', '\u{9b}', '\u{ad}', '\u{200b}', '\u{200d}', '\u{202e}', '\u{2028}', '\u{2066}',
            '\u{feff}',
        ] {
            assert!(is_invisible(c), "{c:?}");
        }
        for c in ['a', 'é', '木', ' ', '\u{a0}', '\u{fffd}', '🦀'] {
            assert!(!is_invisible(c), "{c:?}");
        }
    }

    #[test]
    fn little_of_a_text_is_shown_and_nothing_of_a_key() {
        assert_eq!(Given("warehouse-service").to_string(), "\"warehous…\"");
        assert_eq!(Given("ftp").to_string(), "\"ftp\"");
        assert_eq!(Given("a\u{202e}b\n").to_string(), "\"a\\u{202e}b\\n\"");
        let secret = SecretKey::from_seed([7; 32]).to_base64().unwrap();
        for text in
            [secret.to_string(), format!(" {}\n", secret.trim_end_matches('=')), "ensync_key_abcdefgh".to_owned()]
        {
            assert_eq!(Given(&text).to_string(), "(a key, which is not shown)");
        }
        let long = Given("Acme/OrderService/CustomerAccount/StatusUpdated/x").to_string();
        assert_eq!(long, "(not shown, for it may hold a key)");
    }

    /// Whoever pastes a key does not always get all of it.
    #[test]
    fn a_key_that_lost_a_character_or_gained_one_is_no_name() {
        let (mut missed, mut seed) = (0, [7; 32]);
        for _ in 0..100 {
            let secret = SecretKey::from_seed(seed);
            // As random as a seed is.
            seed = *secret.app_id().unwrap().as_bytes();
            let (id, secret) = (secret.app_id().unwrap().to_string(), secret.to_base64().unwrap());
            let bare = secret.trim_end_matches('=');
            let other_end = format!("{}{}", &id[..42], if id[..43].ends_with('B') { 'C' } else { 'B' });
            for text in [
                &id[..42],
                &id[1..43],
                &format!("{id}x"),
                &format!("{}x", &id[..43]),
                &other_end,
                &bare[..85],
                &bare[1..],
                &format!("\"{}\"", &bare[..85]),
            ] {
                for error in [EventName::parse(text).err(), AppName::parse(text).err()] {
                    match error.map(|error| error.to_string()) {
                        Some(said) => assert!(!said.contains(&text[3..10]), "{said}"),
                        None => missed += 1,
                    }
                }
            }
        }
        assert!(missed <= 16, "{missed} of 1,600");
        let said = EventName::parse(SECRET_IN_PART).unwrap_err().to_string();
        assert!(said.contains("this could be a key (") && said.ends_with("not an event name"), "{said}");
        // Neither is what people call things, nor what they are numbered with.
        for name in [
            "Acme/v2/OrderService/CustomerAccount/Updated",
            "orders/6fa459ea-ee8a-3ca4-894e-db77e160355e",
            "ORDERS/6fa459ea-ee8a-3ca4-894e-db77e160355e",
            "warehouse/shelves/01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "com.example.Billing2.InvoiceCreatedEventV3.a",
            "payments/gateway/settlement/batch/completed2",
            "OrderServiceCustomerAccountStatusUpdatedX2",
            "Acme/Billing/Customer/PaymentMethods/Events",
            "Acme/Billing/Customer/RenewalDate2/Changed0",
            "Acme/Billing/Subscription/PaymentMethods/Updates",
        ] {
            assert!((42..=48).contains(&name.len()), "{name}: {}", name.len());
            assert_eq!(crate::perhaps_secret_in(name), None, "{name}");
            assert_eq!(crate::redacted(name, crate::Redact::Keys), name);
            EventName::parse(name).unwrap();
            // Of apps, ids are looked up before names.
            assert_eq!(AppName::parse(name).is_ok(), AppId::parse(name).is_err(), "{name}");
        }
    }

    /// Whoever has a name for each customer finds out by the first event of one.
    #[test]
    fn names_with_random_ids_in_them_are_names() {
        let alphabets = [
            "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
            "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
            "0123456789abcdef",
        ];
        let (mut state, mut tried) = (7_u64, 0);
        let mut letter = |alphabet: &str| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(alphabet.as_bytes()[(state >> 33) as usize % alphabet.len()])
        };
        for alphabet in alphabets {
            for length in [20, 21, 22, 23, 24, 26, 27, 32, 36].repeat(20) {
                let id: String = (0..length).map(|_| letter(alphabet)).collect();
                for name in [
                    format!("tenants/{id}/orders/paid"),
                    format!("customers/{id}/events"),
                    format!("org/{id}/invoices/created"),
                    format!("acme/orders/{id}/paid"),
                    format!("Acme/Orders/{id}/Changed"),
                    format!("users/{id}"),
                    format!("shop/{id}/stock/{id}/counted"),
                ] {
                    let read = [EventName::parse(&name).err(), AppName::parse(&name).err()];
                    // An app's id is looked up before its name.
                    let refused =
                        read.into_iter().flatten().find(|error| !error.to_string().contains("reads as an app id"));
                    assert!(refused.is_none(), "{name}: {refused:?}");
                    assert_eq!(crate::perhaps_secret_in(&name), None, "{name}");
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, 4 * 180 * 7);
    }

    /// A secret key that lost its end.
    const SECRET_IN_PART: &str =
        "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03";

    #[test]
    fn names_of_the_length_of_a_key_are_no_keys() {
        assert_eq!(reads_as(&"a".repeat(43)), None);
        assert_eq!(reads_as("payments/gateway/settlement/batch/completed"), None);
        assert_eq!(reads_as("oV_L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8"), Some("a key"));
        assert_eq!(reads_as("\u{feff}oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=\r\n"), Some("a key"));
    }
}
