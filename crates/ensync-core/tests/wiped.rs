//! No secret stays in memory behind the values that held it: this process looks for them in its own memory.
//!
//! A test by itself, for another one in the same process would hold secrets of its own. What is left on the part of the stack that
//! nothing uses any more is overwritten before: it is the next call's anyway.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic here is a failed test")]

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom};

use ensync_core::crypto::{Expected, Opener, Recipient, Sealer, Suite};
use ensync_core::{AppId, AppKey, EventName, Keyring, SecretKey};
use zeroize::{Zeroize, Zeroizing};

/// What is looked for, in a form that is not found itself.
struct Needle {
    what: &'static str,
    masked: Vec<u8>,
}

impl Needle {
    /// The second half of a secret: a heap writes its own into the beginning of what is given back to it.
    fn of(what: &'static str, secret: &[u8]) -> Self {
        let half = &secret[secret.len() / 2..];
        assert!(half.len() >= 16);
        Self { what, masked: half[..16].iter().map(|byte| !byte).collect() }
    }

    fn at(&self, memory: &[u8], at: usize) -> bool {
        memory[at..].iter().zip(&self.masked).all(|(found, masked)| *found == !masked)
    }
}

/// How often each is in what this process may write to, and how many bytes that is.
fn found(needles: &[Needle]) -> (Vec<usize>, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut file = File::open("/proc/self/mem").unwrap();
    let (mut counts, mut looked) = (vec![0; needles.len()], 0);
    let mut buffer = vec![0_u8; 1 << 20];
    let begins: [bool; 256] =
        std::array::from_fn(|byte| needles.iter().any(|needle| usize::from(!needle.masked[0]) == byte));
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") || line.ends_with("[vvar]") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [mut at, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        while at + 16 < end {
            // What was read before is not to be found as well.
            buffer.iter_mut().for_each(|byte| *byte = 0);
            let length = usize::try_from(end - at).unwrap().min(buffer.len());
            file.seek(SeekFrom::Start(at)).unwrap();
            let Ok(read) = file.read(&mut buffer[..length]) else { break };
            if read <= 16 {
                break;
            }
            let own = buffer.as_ptr() as u64;
            for place in 0..read - 16 {
                let in_buffer = (own..own + (1 << 20)).contains(&(at + place as u64));
                if !in_buffer && begins[usize::from(buffer[place])] {
                    for (count, needle) in counts.iter_mut().zip(needles) {
                        *count += usize::from(needle.at(&buffer[..read], place));
                    }
                }
            }
            looked += read;
            at += read as u64 - 16;
        }
    }
    buffer.zeroize();
    (counts, looked)
}

/// Writes over what earlier calls have left on the stack.
#[inline(never)]
fn overwrite_stack() {
    let mut room = [0_u8; 512 << 10];
    room.iter_mut().for_each(|byte| *byte = 0xa5);
    black_box(&mut room);
}

#[inline(never)]
fn live(key: &Keyring, app_key: &AppKey) {
    assert!(key.len() > 8 && app_key.expose().len() > 16);
}

/// Everything that takes or makes a secret; the needles of what was in it.
#[inline(never)]
fn every_path() -> Vec<Needle> {
    let mut needles = Vec::new();
    let mut ring = Keyring::default();
    // More keys than a list has room for at first.
    for n in 0..12 {
        let key = SecretKey::generate().unwrap();
        let text = key.to_base64().unwrap();
        if n % 5 == 0 {
            let bytes = Zeroizing::new(base64(&text));
            needles.push(Needle::of("a seed", &bytes[..32]));
            needles.push(Needle::of("the text of a secret key", &text.as_bytes()[..48]));
        }
        let moved = Box::new(SecretKey::parse(&text).unwrap());
        ring = ring.with_previous(*moved);
    }
    let mut list = Zeroizing::new(String::with_capacity(12 * 89));
    for key in ring.iter() {
        list.push_str(&key.to_base64().unwrap());
        list.push(',');
    }
    list.pop();
    let again: Keyring = ring.iter().cloned().collect();
    assert_eq!(Keyring::parse(&list).unwrap().len(), again.len());

    // A key that is not what is asked for, or broken: what was read of it goes, too.
    let secret = SecretKey::generate().unwrap().to_base64().unwrap();
    needles.push(Needle::of("a seed that was refused", &Zeroizing::new(base64(&secret))[..32]));
    for wrong in [format!("{}A", &*secret), format!("{}!", &secret[..86]), secret[..80].to_owned()] {
        let wrong = Zeroizing::new(wrong);
        SecretKey::parse(&wrong).unwrap_err();
        Keyring::parse(&wrong).unwrap_err();
        AppId::parse(&wrong).unwrap_err();
        SecretKey::from_seed_base64(&wrong).unwrap_err();
    }
    AppId::parse(&secret).unwrap_err();
    EventName::parse(&secret).unwrap_err();
    AppKey::parse(&secret).unwrap_err();
    SecretKey::from_x25519_base64(&secret).unwrap_err();

    let app_key = Zeroizing::new(format!("ensync_key_{}", &SecretKey::generate().unwrap().to_base64().unwrap()[..40]));
    needles.push(Needle::of("an app key", app_key.as_bytes()));
    let app_key = AppKey::try_from(app_key.to_string()).unwrap();
    live(&ring, &app_key.clone());

    // What was sealed is opened with agreements that are kept, and forgotten with what kept them.
    let payload = Zeroizing::new(format!("{{\"text\":\"{}\"}}", &*SecretKey::generate().unwrap().to_base64().unwrap()));
    needles.push(Needle::of("a payload", payload.as_bytes()));
    let own = ring.iter().next().unwrap().clone();
    let to = [Recipient::new(own.app_id().unwrap()).unwrap()];
    let event = EventName::parse("a/b").unwrap();
    for suite in [Suite::Nacl, Suite::Aes256Gcm] {
        let sealer = Sealer::new().own_key(own.clone());
        let sealed = sealer.seal(payload.as_bytes(), &to, &event, suite).unwrap().remove(0);
        let opened = Opener::new(ring.clone()).open(&sealed, &Expected::event(&event)).unwrap();
        assert_eq!(opened.plaintext.as_slice(), payload.as_bytes());
    }
    // All of them are there now, or they would not be found later.
    let (counts, _) = found(&needles);
    for (needle, count) in needles.iter().zip(counts) {
        assert!(count > 0 || needle.what.ends_with("refused"), "{} is not even there now", needle.what);
    }
    needles
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn no_secret_stays_behind() {
    let needles = every_path();
    overwrite_stack();
    let (counts, looked) = found(&needles);
    assert!(looked > 1 << 20, "{looked}");
    let left: Vec<_> =
        needles.iter().zip(counts).filter(|(_, count)| *count > 0).map(|(n, count)| (n.what, count)).collect();
    assert!(left.is_empty(), "{left:?}");
}
