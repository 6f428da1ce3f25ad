//! The lines of a file, read in a thread of their own, each with what tells whether the file up to there is what it was.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

/// The longest line, in bytes. No engine takes a larger payload unless it is told to.
const MAX_LINE: u64 = 64 << 20;
/// How many lines may wait.
const WAITING: usize = 16;

/// A line.
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) text: String,
    /// How many bytes end with it.
    pub(super) bytes: u64,
    /// A hash of those bytes.
    pub(super) hash: String,
    /// A hash of the line alone.
    pub(super) own: String,
}

/// Reads lines. An error is the last thing that comes.
pub(super) fn read(path: &Path) -> io::Result<mpsc::Receiver<io::Result<Line>>> {
    let file: Box<dyn Read + Send> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::Builder::new().name("ensync-lines".into()).spawn(move || {
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let (mut hasher, mut number, mut bytes) = (Sha256::new(), 0, 0);
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
                hasher.update(&line);
                let own = hex(&Sha256::digest(line.trim_ascii()), 8);
                let text =
                    String::from_utf8(line).map_err(|_| io::Error::other(format!("line {number} is not UTF-8")))?;
                let hash = hex(&hasher.clone().finalize(), 32);
                Ok(Line { number, text, bytes, hash, own })
            });
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// The first bytes of a hash.
pub(super) fn hex(hash: &[u8], bytes: usize) -> String {
    hash.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}
