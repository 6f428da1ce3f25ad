//! Everything that the program prints goes through here. Results go to standard output, for people or, with `--json`, for programs;
//! a result that cannot be written is a failure, unless whoever reads it has gone. Remarks go to standard error, where nobody need
//! read them.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{OnceLock, mpsc};

use serde_json::{Value, json};
use tabwriter::TabWriter;
use tokio::sync::oneshot;

use crate::exit::{Exit, Problem, ReaderGone};
use crate::foreign::{self, printable};
use crate::variables;

/// What anything here can fail with.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// For programs.
    pub(crate) json: bool,
}

impl Output {
    /// Text as it is: the caller knows that it does nothing to a terminal.
    pub(crate) fn raw(self, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        write(text.as_ref()).map_err(|cause| Unwritten::from(cause).into())
    }

    /// The same by a thread of its own, in the order of the calls: for commands that listen to signals, or have a connection to keep,
    /// while whoever reads is slow.
    pub(crate) fn print(self, text: String) -> impl Future<Output = Result<(), Unwritten>> + Send + use<> {
        let written = submit(text.into_bytes());
        async move {
            match written.await {
                Ok(written) => written.map_err(Unwritten::from),
                Err(_) => Err(Unwritten::Failed("standard output cannot be written: its thread has ended".to_owned())),
            }
        }
    }

    /// A line.
    pub(crate) fn line(self, line: impl fmt::Display) -> Result<(), Failure> {
        self.raw(format!("{line}\n"))
    }

    /// A line of JSON.
    pub(crate) fn value(self, value: &Value) -> Result<(), Failure> {
        self.raw(self.value_text(value))
    }

    /// The same, for [`print`](Self::print).
    pub(crate) fn value_text(self, value: &Value) -> String {
        format!("{}\n", foreign::json(&value.to_string()))
    }

    /// A table as it is printed for people, for [`print`](Self::print).
    pub(crate) fn table_text(self, table: Table) -> Result<String, Failure> {
        table.text(colours(&io::stdout()))
    }

    /// JSON for programs, a line for people.
    pub(crate) fn either(self, value: impl FnOnce() -> Value, line: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { self.value(&value()) } else { self.line(line()) }
    }

    /// JSON for programs, a table for people.
    pub(crate) fn table(self, value: impl FnOnce() -> Value, table: impl FnOnce() -> Table) -> Result<(), Failure> {
        if self.json { self.value(&value()) } else { self.raw(self.table_text(table())?) }
    }

    /// It was done, which people need not be told.
    pub(crate) fn done(self) -> Result<(), Failure> {
        if self.json { self.value(&json!({"done": true})) } else { Ok(()) }
    }
}

/// Why standard output was not written.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// Nobody reads it any more.
    ReaderGone,
    Failed(String),
}

impl From<io::Error> for Unwritten {
    fn from(cause: io::Error) -> Self {
        match cause.kind() {
            ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failed(format!("standard output cannot be written: {cause}")),
        }
    }
}

impl From<Unwritten> for Failure {
    fn from(why: Unwritten) -> Self {
        match why {
            Unwritten::ReaderGone => ReaderGone.into(),
            Unwritten::Failed(message) => Problem::new(Exit::Output, message).into(),
        }
    }
}

/// What is to be written, and who is told of it.
type Job = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// Gives something to the thread that writes standard output.
fn submit(text: Vec<u8>) -> oneshot::Receiver<io::Result<()>> {
    static WRITER: OnceLock<Option<mpsc::Sender<Job>>> = OnceLock::new();
    let writer = WRITER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("ensync-stdout".into());
        // That nobody waits for the answer any more is no reason not to write.
        let started = thread.spawn(move || jobs.iter().for_each(|(text, done)| _ = done.send(write(&text))));
        started.is_ok().then_some(sender)
    });
    let (done, written) = oneshot::channel();
    match writer {
        Some(writer) => _ = writer.send((text, done)),
        None => _ = done.send(write(&text)),
    }
    written
}

fn write(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush())
}

/// A remark, on standard error, that does nothing to a terminal. Nobody may be there to read it.
pub(crate) fn note(text: impl fmt::Display) {
    let text = text.to_string();
    let lines = text.split('\n').map(printable).collect::<Vec<_>>().join("\n");
    _ = writeln!(io::stderr(), "{lines}");
}

/// Whether what is printed there may have colours: it is a terminal, and nobody said otherwise (<https://no-color.org>).
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let plain = variables::environment("NO_COLOR").is_some()
        || variables::environment("TERM").is_some_and(|term| term == "dumb");
    !plain && stream.is_terminal()
}

/// So many of something.
pub(crate) fn plural(count: u64, one: &str, more: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {more}") }
}

/// Rows under a heading, in columns.
pub(crate) struct Table(Vec<String>);

impl Table {
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self(vec![heading.map(|cell| printable(cell).into_owned()).join("\t")])
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.map(|cell| printable(&cell).into_owned()).join("\t"));
    }

    fn text(self, colours: bool) -> Result<String, Failure> {
        let mut out = TabWriter::new(Vec::new()).padding(2);
        out.write_all(self.0.join("\n").as_bytes())?;
        let text =
            String::from_utf8(out.into_inner().map_err(|_| "the table cannot be laid out; please report this")?)?;
        Ok(match text.split_once('\n') {
            Some((heading, rows)) if colours => format!("\u{1b}[1m{heading}\u{1b}[0m\n{rows}\n"),
            _ if colours => format!("\u{1b}[1m{text}\u{1b}[0m\n"),
            _ => format!("{text}\n"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_plain_where_nobody_looks_and_has_a_heading_that_stands_out_where_somebody_does() {
        let table = || {
            let mut table = Table::new(["NAME", "N"]);
            table.row(["a\u{1b}[2J longer".into(), "1".into()]);
            table
        };
        assert_eq!(table().text(false).unwrap(), "NAME          N\na\u{fffd}[2J longer  1\n");
        assert_eq!(table().text(true).unwrap(), "\u{1b}[1mNAME          N\u{1b}[0m\na\u{fffd}[2J longer  1\n");
    }
}
