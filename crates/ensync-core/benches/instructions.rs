//! The same in instructions, which do not depend on what else the machine does. Valgrind counts them, of this program run twice with
//! different numbers of repetitions:
//!
//! ```text
//! cargo bench -p ensync-core --bench instructions --no-run
//! valgrind --tool=callgrind … instructions seal nacl 1024 10     # and again with 110: a hundredth of the difference is one
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod subject;

use subject::{KINDS, Subject};

fn main() {
    let mut given = std::env::args().skip(1);
    let (Some(what), Some(kind), Some(size), Some(times)) = (given.next(), given.next(), given.next(), given.next())
    else {
        // `cargo bench` starts it without them.
        return;
    };
    let (_, options) = KINDS.into_iter().find(|(name, _)| *name == kind).unwrap();
    let subject = Subject::new(options(), size.parse().unwrap());
    for _ in 0..times.parse::<u32>().unwrap() {
        match what.as_str() {
            "seal" => drop(std::hint::black_box(subject.seal())),
            _ => drop(std::hint::black_box(subject.open())),
        }
    }
}
