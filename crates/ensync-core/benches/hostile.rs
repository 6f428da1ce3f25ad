//! What it costs to find out that an envelope is not for the reader, beside an honest one of the same length on the wire: in instructions,
//! counted as for `instructions`. The number before the last is that of the reader's keys.
//!
//! ```text
//! cargo bench -p ensync-core --bench hostile --no-run
//! valgrind --tool=callgrind … hostile open unnamed 102400 3 1    # and again with 11: a tenth of the difference is one
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a benchmark")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ensync_core::crypto::{self, Recipient};
use ensync_core::{Keyring, SecretKey, WirePayload};

/// The ways to be expensive; the first is an honest envelope, opened without anything kept.
const KINDS: [&str; 13] = [
    "honest",
    "unnamed",
    "own",
    "foreign",
    "tiny",
    "escaped names",
    "long names",
    "many members",
    "numbers",
    "small objects",
    "deep",
    "escaped text",
    "not base64",
];

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [what, kind, size, keys, times] = given.as_slice() else {
        // `cargo bench` starts it without them.
        return println!("{KINDS:?}");
    };
    let keys: u8 = keys.parse().unwrap();
    let keyring: Keyring = (1..=keys).map(|seed| SecretKey::from_seed([seed; 32])).collect();
    let wire = wire(kind, size.parse().unwrap(), &keyring);
    for _ in 0..times.parse::<u32>().unwrap() {
        // A copy, for the wire's text remembers what was found out of it.
        let wire = WirePayload::from_wire(wire.clone());
        match what.as_str() {
            "open" => drop(std::hint::black_box(crypto::open(&wire, &keyring))),
            _ => drop(std::hint::black_box(crypto::inspect(&wire))),
        }
    }
}

/// About `size` bytes of base64.
fn wire(kind: &str, size: usize, keyring: &Keyring) -> Vec<u8> {
    let own = keyring.current().unwrap().app_id().unwrap();
    let room = size / 4 * 3;
    if kind == "honest" {
        let payload = vec![b'x'; room.saturating_sub(200) / 4 * 3];
        let sealed = crypto::seal(&payload, &[Recipient::new(own).unwrap()]).unwrap().remove(0);
        return sealed.to_bytes().to_vec();
    }
    let [nonce, boxed, ephemeral] = [&[1; 24][..], &[2; 48], &[9; 32]].map(|bytes| STANDARD.encode(bytes));
    let entry = format!(r#"{{"nonce":"{nonce}","encryptedKey":"{boxed}","ephemeralPublicKey":"{ephemeral}"}}"#);
    let repeated = |one: &dyn Fn(usize) -> String| {
        let mut all = String::new();
        for n in 0.. {
            let next = one(n);
            if all.len() + next.len() > room {
                break;
            }
            if n > 0 {
                all.push(',');
            }
            all.push_str(&next);
        }
        all
    };
    let hex = own.to_hex();
    let spelt = |n: usize| {
        let letters = hex.chars().scan(n, |bits, c| {
            let upper = c.is_ascii_alphabetic() && *bits & 1 == 1;
            if c.is_ascii_alphabetic() {
                *bits >>= 1;
            }
            Some(if upper { c.to_ascii_uppercase() } else { c })
        });
        letters.collect::<String>()
    };
    let foreign = |n: usize| {
        let mut bytes = [7; 32];
        bytes.iter_mut().zip(n.to_le_bytes()).for_each(|(byte, n)| *byte = n);
        STANDARD.encode(bytes)
    };
    let keys = match kind {
        "unnamed" => repeated(&|n| format!("\"e{n}\":{entry}")),
        "own" => repeated(&|n| format!("\"{}\":{entry}", spelt(n))),
        "foreign" => repeated(&|n| format!("\"{}\":{entry}", foreign(n))),
        "tiny" => repeated(&|n| format!("\"{n:x}\":{{}}")),
        "escaped names" => repeated(&|n| format!("\"\\u0061{n:x}\":{{}}")),
        "long names" => repeated(&|n| format!("\"{}{n:06}\":0", "x".repeat(1_000))),
        _ => format!("\"a\":{entry}"),
    };
    let more = match kind {
        "many members" => repeated(&|n| format!("\"{n:x}\":0")),
        "numbers" => format!("\"more\":[{}]", repeated(&|n| format!("{n}e1"))),
        "small objects" => format!("\"more\":[{}]", repeated(&|_| r#"{"":0}"#.to_owned())),
        "deep" => format!("\"more\":[{}]", repeated(&|_| format!("{}{}", "[".repeat(120), "]".repeat(120)))),
        _ => "\"more\":0".to_owned(),
    };
    let ciphertext = match kind {
        "escaped text" => "\\u0041".repeat(room / 6),
        "not base64" => "-+".repeat(room / 2),
        _ => STANDARD.encode([2; 16]),
    };
    let json = format!(
        r#"{{"type":"hybrid","payload":{{"nonce":"{nonce}","ciphertext":"{ciphertext}"}},{more},"keys":{{{keys}}}}}"#
    );
    STANDARD.encode(json).into_bytes()
}
