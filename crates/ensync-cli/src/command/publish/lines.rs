//! The lines of a file, read in a thread of their own, each with what tells whether it is still what it was.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::foreign::trimmed;

/// The longest line, in bytes. No engine takes a larger payload unless it is told to.
const MAX_LINE: u64 = 64 << 20;
/// How many lines may wait.
const WAITING: usize = 16;

/// A hash of a line's text, white space and a byte order mark around it aside.
pub(super) type Own = [u8; 16];

/// The longest text that stands behind a key in the key of a line, in bytes: the line's number and its hash, each behind a hyphen.
pub(super) const KEY_OF_A_LINE: usize = 1 + 20 + 1 + 2 * size_of::<Own>();

/// The idempotency key of a line.
pub(super) fn key(of_all: &str, line: &Line) -> String {
    format!("{of_all}-{}-{}", line.number, hex(&line.own))
}

/// A line.
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) text: String,
    /// How many bytes of the file end with it.
    pub(super) bytes: u64,
    pub(super) own: Own,
}

/// Lines, as they are read. An error is the last thing that comes.
pub(super) type Lines = mpsc::Receiver<io::Result<Line>>;

/// Reads the lines of a file, or of standard input for "-".
pub(super) fn read(path: &Path) -> io::Result<Lines> {
    let file: Box<dyn Read + Send> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::Builder::new().name("ensync-lines".into()).spawn(move || {
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let (mut number, mut bytes) = (0, 0);
        loop {
            let mut line = Vec::new();
            let read = (&mut reader).take(MAX_LINE + 1).read_until(b'\n', &mut line);
            number += 1;
            let line = match read {
                Ok(0) => return,
                Ok(read) if read as u64 > MAX_LINE => {
                    Err(io::Error::other(format!("line {number} is longer than {MAX_LINE} bytes")))
                }
                Ok(_) => Ok(line),
                Err(cause) => Err(cause),
            };
            let line = line.and_then(|line| {
                bytes += line.len() as u64;
                let text =
                    String::from_utf8(line).map_err(|_| io::Error::other(format!("line {number} is not UTF-8")))?;
                Ok(Line { number, own: own(&text), text, bytes })
            });
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// The hash of a line's text.
pub(super) fn own(text: &str) -> Own {
    let hash = Sha256::digest(trimmed(text));
    std::array::from_fn(|at| hash.get(at).copied().unwrap_or_default())
}

/// Bytes as text.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text as bytes, if it is so many.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<_> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<_> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit)).collect();
    if digits.len() != N * 2 {
        return None;
    }
    let bytes: Vec<u8> = bytes.into_iter().map(u8::try_from).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok()
}
