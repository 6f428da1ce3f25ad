//! Finding out that a link is dead although nothing says so.

use std::time::Duration;

use ensync_core::{Command, Error, ErrorKind, Result};
use tokio::time::{Instant, MissedTickBehavior};

use super::link::LiveLink;
use super::retry::may_relent;

/// How long a call may wait while nothing at all comes before the link is asked for a sign of life.
pub(super) const PROBE_AFTER: Duration = Duration::from_secs(5);
/// How long that may take.
pub(super) const PROBE_WITHIN: Duration = Duration::from_secs(5);
/// How long a call may be the next to be answered, whatever else comes, and beside what a slow network takes for what is on its way: then
/// something ate it or its answer, and the next link is asked.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How much later than planned a look shows that this side stood still: its process was stopped, or its thread blocked. What came meanwhile
/// was not read yet.
const LATE: Duration = Duration::from_secs(1);

/// Proves now and then that the link is alive, and keeps the session so. Returns when it is not.
pub(super) async fn heartbeat(link: &LiveLink, every: Duration) -> Error {
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // It may stand behind something large on a slow network.
        if let Err(error) = prove(link, every.saturating_add(link.vitals.on_its_way())).await {
            return error;
        }
    }
}

/// Returns when a call waits for too long. Does nothing while none does.
pub(super) async fn watch(link: &LiveLink) -> Error {
    // Before that nothing counts.
    let mut from = Instant::now();
    loop {
        let asked = link.vitals.asked().await;
        let now = Instant::now();
        let quiet = link.quiet().min(now.saturating_duration_since(asked.max(from)));
        let (since, more) = link.next_since().unwrap_or((now, Duration::ZERO));
        let (aged, limit) = (now.saturating_duration_since(since.max(from)), ANSWER_WITHIN.saturating_add(more));
        if aged >= limit {
            let text = format!("a call was not answered within {limit:?}");
            return Error::new(ErrorKind::Timeout, text);
        }
        // Nothing comes while something large is on its way, and a heartbeat is behind it.
        let upload = link.vitals.on_its_way();
        let probe_after = PROBE_AFTER.saturating_add(upload);
        if quiet >= probe_after {
            if let Err(error) = prove(link, PROBE_WITHIN.saturating_add(upload)).await {
                return error;
            }
            continue;
        }
        // What is looked at next may have come to life until then, or others be older: all is looked at anew.
        let until = now + (probe_after - quiet).min(limit - aged).max(Duration::from_millis(1));
        tokio::time::sleep_until(until).await;
        if until.elapsed() > LATE {
            from = Instant::now();
        }
    }
}

/// Sends a heartbeat. Fails if not a single byte comes within the limit, or no answer in [`ANSWER_WITHIN`] although bytes do, and not more
/// than that takes on a slow network.
pub(super) async fn prove(link: &LiveLink, limit: Duration) -> Result<()> {
    let since = Instant::now();
    let answer = link.call(Command::Heartbeat, limit);
    tokio::pin!(answer);
    loop {
        let until = Instant::now() + limit;
        match tokio::time::timeout_at(until, &mut answer).await {
            Ok(Ok(_)) => return Ok(()),
            // It cannot be done now, says somebody: that is an answer.
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::LimitExceeded) => {
                return Ok(());
            }
            Ok(Err(error)) if may_relent(&error, true) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) if until.elapsed() > LATE => {}
            Err(_) if link.quiet() < limit && since.elapsed() < patience(link).max(limit) => {}
            Err(_) => {
                let text = format!("no answer to a heartbeat within {:?}", since.elapsed());
                return Err(Error::new(ErrorKind::Timeout, text));
            }
        }
    }
}

/// How long the oldest call may wait.
fn patience(link: &LiveLink) -> Duration {
    link.next_since().map_or(ANSWER_WITHIN, |(_, more)| ANSWER_WITHIN.saturating_add(more))
}
