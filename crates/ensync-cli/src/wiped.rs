//! What the tool has read of a secret is not in its memory any more when it has let go of it: looked for there.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom};

use zeroize::{Zeroize, Zeroizing};

use crate::contexts::{Context, Contexts};
use crate::variables;

/// How often a text whose bytes were turned over is in what this process may write to.
fn found(masked: &[u8]) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = File::open("/proc/self/mem").unwrap();
    let (mut count, mut looked) = (0, 0);
    let mut buffer = vec![0_u8; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw") && !line.ends_with("[vvar]")) {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [mut at, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        while at + (masked.len() as u64) < end {
            buffer.iter_mut().for_each(|byte| *byte = 0);
            let length = usize::try_from(end - at).unwrap().min(buffer.len());
            memory.seek(SeekFrom::Start(at)).unwrap();
            let Ok(read) = memory.read(&mut buffer[..length]) else { break };
            if read <= masked.len() {
                break;
            }
            let own = buffer.as_ptr() as u64;
            for (place, window) in buffer[..read].windows(masked.len()).enumerate() {
                let in_buffer = (own..own + (1 << 20)).contains(&(at + place as u64));
                count += usize::from(!in_buffer && window.iter().zip(masked).all(|(found, masked)| *found == !masked));
            }
            looked += read;
            at += (read - masked.len()) as u64;
        }
    }
    buffer.zeroize();
    assert!(looked > 1 << 20, "{looked}");
    count
}

/// Writes over what earlier calls have left on the stack.
#[inline(never)]
fn overwrite_stack() {
    let mut room = [0_u8; 256 << 10];
    room.iter_mut().for_each(|byte| *byte = 0xa5);
    black_box(&mut room);
}

/// A secret of this test's own, and its second half turned over: a heap writes its own into the beginning of what is given back.
#[inline(never)]
fn secret() -> (Zeroizing<String>, Vec<u8>) {
    let text = ensync_sdk::SecretKey::generate().unwrap().to_base64().unwrap();
    let masked = text.as_bytes()[44..64].iter().map(|byte| !byte).collect();
    (text, masked)
}

/// Every way in which the tool comes by a secret, and what holds it while it is needed.
#[inline(never)]
fn every_path(place: &std::path::Path, secret: &str) {
    use std::os::unix::fs::PermissionsExt;
    let write = |path: &std::path::Path, parts: &[&str]| {
        let mut text = Zeroizing::new(Vec::with_capacity(4_096));
        parts.iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
        std::fs::write(path, &*text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    // The file .env.
    let file = place.join(".env");
    write(&file, &["ENSYNC_URL=h\nexport ENSYNC_SECRET_KEY='", secret, "'\n"]);
    let read = variables::read_file(&file);
    assert!(read["ENSYNC_SECRET_KEY"].as_str() == secret);
    // Contexts: read, written, and refused for something else in them.
    let file = place.join("contexts.json");
    write(&file, &["{\"contexts\":{\"a\":{\"url\":\"h\",\"app_key\":\"", secret, "\"}}}"]);
    let mut contexts = Contexts::read(&file).unwrap();
    assert!(contexts.get("a").unwrap().value("ENSYNC_APP_KEY").unwrap().unwrap().as_str() == secret);
    contexts.all.insert("b".to_owned(), contexts.get("a").unwrap().clone());
    contexts.write(&file).unwrap();
    assert!(Contexts::read(&file).unwrap() == contexts);
    let broken = place.join("broken.json");
    write(&broken, &["{\"contexts\":{\"a\":{\"app_key\":\"", secret, "\",\"url\":7}}}"]);
    Contexts::read(&broken).unwrap_err();
    // A command that prints it.
    let file = place.join("printed");
    write(&file, &[secret, "\nuser: shop\n"]);
    let command = format!("cat '{}'", file.display());
    let context = Context(BTreeMap::from([("secret_key_command".to_owned(), command.into())]));
    assert!(context.value("ENSYNC_SECRET_KEY").unwrap().unwrap().as_str() == secret);
}

#[test]
fn no_secret_of_a_file_or_a_command_stays_behind() {
    let place = tempfile::tempdir().unwrap();
    let (text, masked) = secret();
    assert!(found(&masked) > 0, "it is not found where it is");
    every_path(place.path(), &text);
    drop(text);
    overwrite_stack();
    assert_eq!(found(&masked), 0);
}
