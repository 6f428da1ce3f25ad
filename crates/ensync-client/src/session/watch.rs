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
/// How long a call may be the next to be answered, whatever else comes: then something ate it or its answer, and the next link is asked.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Proves now and then that the link is alive, and keeps the session so. Returns when it is not.
pub(super) async fn heartbeat(link: &LiveLink, every: Duration) -> Error {
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = prove(link, every).await {
            return error;
        }
    }
}

/// Returns when a call waits for too long. Does nothing while none does.
pub(super) async fn watch(link: &LiveLink) -> Error {
    loop {
        let asked = link.vitals.asked().await;
        let now = Instant::now();
        let quiet = link.quiet().min(now.saturating_duration_since(asked));
        let aged = link.vitals.next_since().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if aged >= ANSWER_WITHIN {
            let text = format!("a call was not answered within {ANSWER_WITHIN:?}");
            return Error::new(ErrorKind::Timeout, text);
        }
        if quiet >= PROBE_AFTER {
            if let Err(error) = prove(link, PROBE_WITHIN).await {
                return error;
            }
            continue;
        }
        // What is looked at next may have come to life until then, or others be older: all is looked at anew.
        tokio::time::sleep((PROBE_AFTER - quiet).min(ANSWER_WITHIN - aged).max(Duration::from_millis(1))).await;
    }
}

/// Sends a heartbeat. Fails if not a single byte comes within the limit, or no answer in [`ANSWER_WITHIN`] although bytes do.
pub(super) async fn prove(link: &LiveLink, limit: Duration) -> Result<()> {
    let since = Instant::now();
    let answer = link.call(Command::Heartbeat, limit);
    tokio::pin!(answer);
    loop {
        match tokio::time::timeout(limit, &mut answer).await {
            Ok(Ok(_)) => return Ok(()),
            // It cannot be done now, says somebody: that is an answer.
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::LimitExceeded) => {
                return Ok(());
            }
            Ok(Err(error)) if may_relent(&error, true) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) if link.quiet() < limit && since.elapsed() < ANSWER_WITHIN.max(limit) => {}
            Err(_) => {
                let text = format!("no answer to a heartbeat within {:?}", since.elapsed());
                return Err(Error::new(ErrorKind::Timeout, text));
            }
        }
    }
}
