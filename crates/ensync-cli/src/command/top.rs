//! `ensync top`.

use std::num::NonZeroU64;
use std::time::{Duration, UNIX_EPOCH};

use bytesize::ByteSize;
use clap::Args;
use serde_json::{Value, json};

use super::Outcome;
use crate::admin::Admin;
use crate::exit::{Exit, Problem};
use crate::output::Output;
use crate::{signals, values};

/// After how many lines the heading is repeated.
const SCREEN: u64 = 20;
/// What is counted up, and shown per second.
const RATES: [&str; 4] = ["published", "delivered", "acked", "died"];

/// Watch a running engine: a line each second with what happens in it, what waits and who is there, until Ctrl-C.
#[derive(Args)]
#[command(after_help = "Examples:\n  ensync top\n  ensync top --count 10 --json")]
pub(crate) struct Top {
    /// End after this many lines.
    #[arg(long, value_name = "COUNT", value_parser = values::at_least_one::<NonZeroU64>)]
    count: Option<NonZeroU64>,
    #[command(flatten)]
    admin: Admin,
}

impl Top {
    pub(crate) async fn run(self, out: Output) -> Outcome {
        self.admin.must_run("ensync top")?;
        let mut signals = signals::Signals::of_command()?;
        let mut samples = self.admin.follow("/v1/live")?;
        let mut before: Option<Value> = None;
        for line in 0..self.count.map_or(u64::MAX, NonZeroU64::get) {
            let Ok(told) = signals.unless(samples.next()).await else { return Ok(()) };
            let sample = told?.ok_or_else(|| {
                Problem::new(Exit::Unreachable, "the engine tells no more: it stops, or its token was changed")
            })?;
            let rates = rates(&sample, before.as_ref());
            let text = match out.json {
                true => out.value_text(&with_rates(&sample, rates)),
                false => {
                    // Each time, for somebody may change it.
                    let width = terminal_width();
                    let row = row(&sample, rates, width);
                    if line % SCREEN == 0 { format!("{}\n{row}\n", heading(width)) } else { format!("{row}\n") }
                }
            };
            let Ok(printed) = signals.unless(out.print(text)).await else { return Ok(()) };
            printed?;
            before = Some(sample);
        }
        Ok(())
    }
}

fn count(sample: &Value, name: &str) -> Option<u64> {
    sample.get(name).and_then(Value::as_u64)
}

/// How often each of [`RATES`] happened per second since the sample before. An engine that was started again counts anew.
fn rates(sample: &Value, before: Option<&Value>) -> [Option<f64>; 4] {
    RATES.map(|name| {
        let since = |name: &str| count(sample, name)?.checked_sub(count(before?, name)?);
        let ms = since("at").filter(|ms| *ms > 0)?;
        Some(since(name)? as f64 * 1e3 / ms as f64)
    })
}

fn with_rates(sample: &Value, rates: [Option<f64>; 4]) -> Value {
    let mut sample = sample.clone();
    if let Some(members) = sample.as_object_mut() {
        let rates = RATES.into_iter().zip(rates).map(|(name, rate)| (name.to_owned(), json!(rate))).collect();
        members.insert("per_second".to_owned(), Value::Object(rates));
    }
    sample
}

/// What a line has, how wide that is, and in which order it is left out where a terminal is too narrow: the largest number first.
const COLUMNS: [(&str, usize, u8); 13] = [
    ("TIME", 8, 0),
    ("PUBLISHED/S", 11, 1),
    ("DELIVERED/S", 11, 4),
    ("ACKED/S", 9, 2),
    ("DIED/S", 7, 9),
    ("READY", 9, 1),
    ("IN FLIGHT", 9, 5),
    ("DEFERRED", 9, 8),
    ("DEAD", 7, 3),
    ("OLDEST", 6, 6),
    ("SESSIONS", 8, 10),
    ("COMMIT", 9, 11),
    ("LOG", 9, 12),
];

/// Which columns there is room for.
fn shown_columns(width: Option<usize>) -> [bool; COLUMNS.len()] {
    let mut shown = [true; COLUMNS.len()];
    let room = width.unwrap_or(usize::MAX);
    let wide = |shown: &[bool]| {
        COLUMNS.iter().zip(shown).filter(|(_, shown)| **shown).map(|((_, wide, _), _)| wide + 1).sum::<usize>()
    };
    // The cell behind the last column stays free: some terminals wrap a line that fills them.
    while wide(&shown) > room {
        let left = COLUMNS.iter().zip(&shown).enumerate().filter(|(_, ((.., rank), shown))| **shown && *rank > 0);
        let Some((at, _)) = left.max_by_key(|(_, ((.., rank), _))| *rank) else { break };
        if let Some(shown) = shown.get_mut(at) {
            *shown = false;
        }
    }
    shown
}

/// How many columns the terminal has now, if it is one.
#[cfg(unix)]
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

#[cfg(not(unix))]
fn terminal_width() -> Option<usize> {
    None
}

fn heading(width: Option<usize>) -> String {
    line(COLUMNS.map(|(name, ..)| name.to_owned()), width)
}

/// Cells in their columns: the first to the left, the others, which are numbers, to the right.
fn line(cells: [String; COLUMNS.len()], width: Option<usize>) -> String {
    let cells = cells.iter().zip(COLUMNS).zip(shown_columns(width)).filter(|(_, shown)| *shown);
    let cells = cells.map(
        |((cell, (_, wide, rank)), _)| if rank == 0 { format!("{cell:<wide$}") } else { format!("{cell:>wide$}") },
    );
    cells.collect::<Vec<_>>().join(" ")
}

fn row(sample: &Value, rates: [Option<f64>; 4], width: Option<usize>) -> String {
    let [published, delivered, acked, died] =
        rates.map(|rate| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")));
    let [ready, flight, deferred, dead, sessions] = ["ready", "in_flight", "deferred", "dead", "sessions"]
        .map(|name| count(sample, name).map_or_else(|| "-".to_owned(), |count| count.to_string()));
    let at = count(sample, "at").and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    let at = at.map(|at| humantime::format_rfc3339_seconds(at).to_string());
    let at = at.as_deref().and_then(|at| at.get(11..19)).unwrap_or("-").to_owned();
    let oldest = count(sample, "oldest_ms").map_or_else(|| "-".to_owned(), |ms| age(ms / 1_000));
    let commit = match (count(sample, "commits"), count(sample, "commit_mean_us")) {
        (Some(1..), Some(us)) => format!("{:.1} ms", us as f64 / 1e3),
        _ => "-".to_owned(),
    };
    let log = count(sample, "log_bytes").map_or_else(|| "-".to_owned(), |bytes| ByteSize(bytes).to_string());
    line([at, published, delivered, acked, died, ready, flight, deferred, dead, oldest, sessions, commit, log], width)
}

/// How old something is, in the largest unit of which it has one.
fn age(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.iter().find(|(length, _)| seconds >= *length);
    unit.map_or_else(|| format!("{seconds}s"), |(length, name)| format!("{}{name}", seconds / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_happened_since_the_one_before() {
        let sample = |at: u64, published: u64| {
            json!({"at": at, "published": published, "delivered": 0, "acked": 0, "died": 0, "ready": 7, "in_flight": 1, "deferred": 0,
                   "dead": 2, "oldest_ms": 7_300_000, "sessions": 3, "commits": 2, "commit_mean_us": 1_300, "log_bytes": null})
        };
        let (first, second) = (sample(0, 10), sample(2_000, 30));
        assert_eq!(rates(&first, None), [None; 4]);
        assert_eq!(rates(&second, Some(&first))[0], Some(10.0));
        assert_eq!(rates(&first, Some(&second))[0], None, "started again");
        let shown = row(&second, rates(&second, Some(&first)), None);
        let cells: Vec<_> = shown.split_whitespace().collect();
        assert_eq!(cells, ["00:00:02", "10.0", "0.0", "0.0", "0.0", "7", "1", "0", "2", "2h", "3", "1.3", "ms", "-"]);
        assert_eq!(shown.len(), heading(None).len());
        assert_eq!(with_rates(&second, rates(&second, Some(&first)))["per_second"]["published"], 10.0);
        assert_eq!([0, 59, 60, 3_600, 200_000].map(age), ["0s", "59s", "1m", "1h", "2d"]);
    }

    #[test]
    fn a_line_is_no_wider_than_the_terminal() {
        for width in [20, 40, 79, 80, 100, 120, 124, 125, 200] {
            let (heading, row) = (heading(Some(width)), row(&json!({}), [None; 4], Some(width)));
            assert!(heading.len() < width && heading.len() == row.len(), "{width}: {heading:?}");
            assert!(heading.starts_with("TIME"), "{heading}");
        }
        assert_eq!(heading(Some(200)), heading(None));
        let narrow = heading(Some(80));
        assert_eq!(
            narrow.split_whitespace().collect::<Vec<_>>(),
            ["TIME", "PUBLISHED/S", "DELIVERED/S", "ACKED/S", "READY", "IN", "FLIGHT", "DEAD", "OLDEST"]
        );
    }
}
