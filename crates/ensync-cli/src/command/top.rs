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
                false if line % SCREEN == 0 => format!("{}\n{}\n", heading(), row(&sample, rates)),
                false => format!("{}\n", row(&sample, rates)),
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

fn heading() -> String {
    let [published, delivered, acked, died] = ["PUBLISHED/S", "DELIVERED/S", "ACKED/S", "DIED/S"];
    let [ready, flight, deferred, dead, oldest] = ["READY", "IN FLIGHT", "DEFERRED", "DEAD", "OLDEST"];
    let [sessions, commit, log] = ["SESSIONS", "COMMIT", "LOG"];
    format!(
        "{:<8} {published:>11} {delivered:>11} {acked:>9} {died:>7} {ready:>9} {flight:>9} {deferred:>9} {dead:>7} {oldest:>6} \
         {sessions:>8} {commit:>9} {log:>9}",
        "TIME"
    )
}

fn row(sample: &Value, rates: [Option<f64>; 4]) -> String {
    let [published, delivered, acked, died] =
        rates.map(|rate| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")));
    let [ready, flight, deferred, dead, sessions] = ["ready", "in_flight", "deferred", "dead", "sessions"]
        .map(|name| count(sample, name).map_or_else(|| "-".to_owned(), |count| count.to_string()));
    let at = count(sample, "at").and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    let at = at.map(|at| humantime::format_rfc3339_seconds(at).to_string());
    let at = at.as_deref().and_then(|at| at.get(11..19)).unwrap_or("-");
    let oldest = count(sample, "oldest_ms").map_or_else(|| "-".to_owned(), |ms| age(ms / 1_000));
    let commit = match (count(sample, "commits"), count(sample, "commit_mean_us")) {
        (Some(1..), Some(us)) => format!("{:.1} ms", us as f64 / 1e3),
        _ => "-".to_owned(),
    };
    let log = count(sample, "log_bytes").map_or_else(|| "-".to_owned(), |bytes| ByteSize(bytes).to_string());
    format!(
        "{at:<8} {published:>11} {delivered:>11} {acked:>9} {died:>7} {ready:>9} {flight:>9} {deferred:>9} {dead:>7} {oldest:>6} \
         {sessions:>8} {commit:>9} {log:>9}"
    )
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
        let shown = row(&second, rates(&second, Some(&first)));
        let cells: Vec<_> = shown.split_whitespace().collect();
        assert_eq!(cells, ["00:00:02", "10.0", "0.0", "0.0", "0.0", "7", "1", "0", "2", "2h", "3", "1.3", "ms", "-"]);
        assert_eq!(shown.len(), heading().len());
        assert_eq!(with_rates(&second, rates(&second, Some(&first)))["per_second"]["published"], 10.0);
        assert_eq!([0, 59, 60, 3_600, 200_000].map(age), ["0s", "59s", "1m", "1h", "2d"]);
    }
}
