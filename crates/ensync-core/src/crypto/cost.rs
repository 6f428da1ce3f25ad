//! What it costs to find out that an envelope does not open: counted, in what takes nearly all of the time, and compared with an honest
//! envelope that is as long on the wire. For tests alone.

use std::cell::Cell;

/// What this thread has done since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Agreements of two keys, some 50 µs each.
    agreements: usize,
    /// Bytes that were authenticated, and decrypted if they were genuine.
    decrypted: usize,
    /// Bytes that went through SHA-256.
    hashed: usize,
    /// Characters that were read as base64.
    decoded: usize,
    /// Bytes that were read as JSON.
    read: usize,
}

thread_local! {
    pub(crate) static SPENT: Cell<Spent> = const { Cell::new(Spent { agreements: 0, decrypted: 0, hashed: 0, decoded: 0, read: 0 }) };
}

fn add(count: impl FnOnce(&mut Spent)) {
    let mut spent = SPENT.get();
    count(&mut spent);
    SPENT.set(spent);
}

pub(crate) fn agreed() {
    add(|spent| spent.agreements += 1);
}

pub(crate) fn decrypted(bytes: usize) {
    add(|spent| spent.decrypted += bytes);
}

pub(crate) fn hashed(bytes: usize) {
    add(|spent| spent.hashed += bytes);
}

pub(crate) fn decoded(characters: usize) {
    add(|spent| spent.decoded += characters);
}

pub(crate) fn read(bytes: usize) {
    add(|spent| spent.read += bytes);
}

mod tests {
    use super::*;
    use crate::crypto::{Expected, Opener, Recipient, SealOptions, Sealer, Suite};
    use crate::{AppId, EventName, Keyring, SecretKey, WirePayload, encoding};

    /// How many times as much as an honest envelope of its size a hostile one may cost.
    const MOST: usize = 10;

    fn app(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn ring(keys: u8) -> Keyring {
        (1..=keys).map(app).collect()
    }

    /// What it takes to open an envelope with nothing kept, or to see that it does not.
    fn spent(wire: &WirePayload, keys: &Keyring, opens: bool) -> Spent {
        let opener = Opener::new(keys.clone());
        SPENT.take();
        assert_eq!(opener.open(wire, &Expected::any_event()).is_ok(), opens);
        SPENT.take()
    }

    /// An envelope for the first key of the ring that is not longer than `length` characters, and not much shorter.
    fn honest(length: usize, options: SealOptions) -> WirePayload {
        let event = EventName::parse("a/b").unwrap();
        let to = [Recipient::new(app(1).app_id().unwrap()).unwrap()];
        let seal =
            |bytes| Sealer::new().own_key(app(99)).seal(&vec![b'x'; bytes], &to, &event, options).unwrap().remove(0);
        let around = seal(0).len();
        // Base64 of base64.
        let sealed = seal(length.saturating_sub(around) / 16 * 9);
        assert!(sealed.len() <= length.max(around));
        sealed
    }

    fn wire(json: &str) -> WirePayload {
        WirePayload::from_wire(encoding::encode(json.as_bytes()))
    }

    /// One after the other with commas, as many as there is room for.
    fn listed(room: usize, items: impl IntoIterator<Item = String>) -> String {
        let mut list = String::new();
        for item in items {
            if !list.is_empty() && list.len() + item.len() > room {
                break;
            }
            list = if list.is_empty() { item } else { list + "," + &item };
        }
        list
    }

    /// An app's id in more spellings than anybody reads.
    fn spellings(id: AppId) -> impl Iterator<Item = String> {
        let (base64, hex) = (id.to_string(), id.to_hex());
        let url_safe = base64.replace('+', "-").replace('/', "_");
        let bare = |text: &str| text.trim_end_matches('=').to_owned();
        let mut names = vec![bare(&base64), bare(&url_safe), base64, url_safe];
        // In hex there are as many as there are ways to mix its case.
        names.extend((0..=64).map(|at| [&hex[..at], &hex[at..].to_uppercase()].concat()));
        names.sort_unstable();
        names.dedup();
        names.into_iter()
    }

    /// Envelopes that open for nobody, some `length` characters long, each with what is expensive about it.
    fn hostile(length: usize) -> Vec<(&'static str, WirePayload)> {
        let room = length / 4 * 3;
        let [nonce, boxed, ephemeral] = [&[1; 24][..], &[2; 48], &[9; 32]].map(encoding::encode);
        let entry = |name: &str| {
            format!(r#""{name}":{{"nonce":"{nonce}","encryptedKey":"{boxed}","ephemeralPublicKey":"{ephemeral}"}}"#)
        };
        let hybrid = |ciphertext: &str, keys: String| {
            let payload = format!(r#"{{"nonce":"{nonce}","ciphertext":"{ciphertext}"}}"#);
            wire(&format!(r#"{{"type":"hybrid","payload":{payload},"keys":{{{keys}}}}}"#))
        };
        let single = |ciphertext: &str, ephemeral: &str| {
            wire(&format!(r#"{{"nonce":"{nonce}","ciphertext":"{ciphertext}","ephemeralPublicKey":"{ephemeral}"}}"#))
        };
        let own = || (1..=8).flat_map(|seed| spellings(app(seed).app_id().unwrap())).map(|name| entry(&name));
        let unnamed = || (0..).map(|n| entry(&format!("entry {n}")));
        let foreign =
            (0_u64..).map(|n| entry(&AppId::from_bytes([n.to_le_bytes(); 4].concat().try_into().unwrap()).to_string()));
        let hollow = (0..).map(|n| format!("\"{n:x}\":{{}}"));
        let long = (0..64).map(|n| format!("\"{n:x}\":{{\"encryptedKey\":\"{}\"}}", "A".repeat(room / 64)));
        let text = encoding::encode(&vec![3; room / 4 * 3]);
        let url_safe = format!("-{}", "A".repeat(text.len() / 4 * 4 - 1));
        let tag = encoding::encode(&[4; 16]);
        vec![
            ("own names in every spelling", hybrid(&tag, listed(room, own()))),
            ("names of nobody", hybrid(&tag, listed(room, unnamed()))),
            ("names of nobody around a long text", hybrid(&text, listed(0, unnamed().take(1)))),
            ("own names and names of nobody", hybrid(&tag, listed(room, own().take(4).chain(unnamed())))),
            ("names of others", hybrid(&tag, listed(room, foreign))),
            ("entries without anything", hybrid(&tag, listed(room, hollow))),
            ("entries that are too long", hybrid(&tag, listed(room, long))),
            ("one box for nobody", single(&text, &ephemeral)),
            ("one box in the other alphabet", single(&url_safe, &ephemeral)),
            ("one box that everybody can make", single(&text, &encoding::encode(&[0; 32]))),
        ]
    }

    #[test]
    fn what_does_not_open_costs_ten_times_what_an_honest_envelope_does_at_most() {
        for length in [2_000, 16_000, 140_000] {
            for (what, wire) in hostile(length) {
                let least = spent(&honest(wire.len(), Suite::Nacl.into()), &ring(1), true);
                assert_eq!(least.agreements, 1);
                for keys in [1, 3, 8, 20] {
                    assert_within(what, wire.len(), keys, spent(&wire, &ring(keys), false), least);
                }
            }
        }
    }

    /// The other suite says for whom it is: the ring's other keys are not tried.
    #[test]
    fn a_sealed_envelope_that_was_altered_costs_no_more_than_before() {
        for length in [2_000, 16_000, 140_000] {
            for options in [Suite::Aes256Gcm.into(), SealOptions::from(Suite::Aes256Gcm).signed()] {
                let good = honest(length, options);
                let least = spent(&good, &ring(1), true);
                let json = String::from_utf8(encoding::decode(good.as_str().unwrap()).unwrap()).unwrap();
                for member in ["header", "key", "ciphertext", "signature"] {
                    let Some((before, value)) = json.split_once(&format!(r#""{member}":""#)) else { continue };
                    // The last letter but three: of a header that is within its JSON.
                    let at = before.len() + member.len() + 4 + value.find('"').unwrap() - 4;
                    let mut altered = json.clone().into_bytes();
                    altered[at] = if altered[at] == b'B' { b'C' } else { b'B' };
                    let wire = WirePayload::from_wire(encoding::encode(&altered));
                    for keys in [1, 3, 8] {
                        let spent = spent(&wire, &ring(keys), false);
                        assert!(spent.agreements <= 2, "{member}: {spent:?}");
                        assert_within(member, wire.len(), keys, spent, least);
                    }
                }
            }
        }
    }

    /// An envelope that does not say for whom it is is tried with each key: a ring of more keys than that costs what they cost, as the
    /// ring's documentation says.
    fn assert_within(what: &str, length: usize, keys: u8, spent: Spent, least: Spent) {
        let most = MOST.max(usize::from(keys) + 1);
        let [hostile, honest] = [spent, least].map(|s| [s.agreements, s.decrypted, s.hashed, s.decoded, s.read]);
        assert!(
            hostile.iter().zip(honest).all(|(hostile, honest)| *hostile <= most * honest),
            "{what}, {length} characters, {keys} keys: {spent:?}, an honest one {least:?}"
        );
    }
}
