//! Whether the broker answers, and what it counts. A partition that does not answer hides nothing of the others.

use std::sync::PoisonError;
use std::time::Duration;

use ensync_core::{Error, ErrorKind, Result};
use futures::future::join_all;

use super::{Broker, UNANSWERED};
use crate::log::LogUsage;
use crate::metrics::Reading;
use crate::partition::Partition;
use crate::state::{Census, Count, Counted};

/// How many queues are counted at a time.
const QUEUES: usize = 1_024;

impl Broker {
    /// Whether commands are carried out: the broker answers, is not stopping, and its log takes what it is given. Of several partitions
    /// one is enough: to keep clients away would help nobody whose queues are in another. Which of them answer, the metrics say.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] says why not.
    pub async fn ready(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Unavailable, why));
        if self.is_stopping() {
            return refuse("the engine is stopping".into());
        }
        if let Some(error) = self.failure() {
            return refuse(ensync_core::report(&error));
        }
        let count = self.0.partitions.len();
        if let Some(why) = self.0.metrics.trouble(count) {
            return refuse(why);
        }
        self.check_tasks()?;
        let answers = self.answers(UNANSWERED).await;
        if self.carries_out(&answers) {
            return Ok(());
        }
        refuse(match (answers.contains(&true), self.hangs()) {
            (true, _) => "the logs of those partitions that answer take nothing".into(),
            (false, Some(hangs)) => format!("the disk has not answered for {} s", hangs.as_secs()),
            (false, None) => format!("the broker has not answered for {} s", UNANSWERED.as_secs()),
        })
    }

    /// Whether one of the partitions that answer has a log that takes what it is given.
    fn carries_out(&self, answers: &[bool]) -> bool {
        answers.iter().enumerate().any(|(index, answers)| *answers && !self.0.metrics.refuses(index))
    }

    /// Whether a restart would be of no use: it answers, or waits for a disk that does not. A watchdog ends it otherwise.
    pub async fn is_alive(&self) -> bool {
        let answers = self.check_tasks().is_ok() && !self.answers(UNANSWERED).await.contains(&false);
        answers || self.is_stopping() || self.hangs().is_some()
    }

    /// Refuses what needs all tasks once one of them has failed.
    fn check_tasks(&self) -> Result<()> {
        if *self.0.running.borrow() {
            return Err(Error::new(ErrorKind::Unavailable, "a task of the engine has failed; start the engine again"));
        }
        Ok(())
    }

    /// Which partitions' tasks answer in time.
    pub(super) async fn answers(&self, within: Duration) -> Vec<bool> {
        let all = (0..self.0.partitions.len()).map(|index| async move {
            let answer = tokio::time::timeout(within, self.look(index, |_| ())).await;
            answer.is_ok_and(|answer| answer.is_ok())
        });
        join_all(all).await
    }

    /// For how long a disk has not answered.
    fn hangs(&self) -> Option<Duration> {
        self.logs().filter_map(|records| records.hangs()).max()
    }

    /// What there is to see of it, in the text format of OpenMetrics: what the admin listener serves at `/metrics` to who asks for that.
    ///
    /// Costs each partition one look at each of its queues, some of them at a time. Of one that does not answer within 5 s, what it said last
    /// is told.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the broker has stopped.
    pub async fn metrics(&self) -> Result<String> {
        // Who watches an engine wants to know most when it hangs. Both at once, for he does not wait for ever either.
        let (census, rest) = tokio::join!(self.census(), self.rest());
        let census = census?;
        let ready = self.carries_out(&census.answers) && self.failure().is_none() && self.check_tasks().is_ok();
        self.0.metrics.encode(Reading { census: Some(census), ready, ..rest })
    }

    /// Counts what is in all partitions, each of which has its time to answer.
    pub(super) async fn census(&self) -> Result<Census> {
        self.check_running()?;
        let counts = (0..self.0.partitions.len()).map(|index| tokio::time::timeout(UNANSWERED, self.count(index)));
        let counts = join_all(counts).await;
        let mut census = Census::new(&self.0.layer.read().access, self.0.time.now());
        let mut last = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        last.resize_with(counts.len(), Default::default);
        for (counted, last) in counts.into_iter().zip(last.iter_mut()) {
            let counted = counted.ok().and_then(Result::ok);
            let answers = counted.is_some();
            *last = counted.or(last.take());
            census.add(last.as_ref(), answers);
        }
        Ok(census)
    }

    async fn count(&self, index: usize) -> Result<Counted> {
        let mut count = Count::default();
        loop {
            let look = move |partition: &Partition| {
                let done = partition.count(&mut count, QUEUES);
                (done, count, partition.queues.len())
            };
            let (done, counted, queues) = self.look(index, look).await?;
            count = counted;
            if done {
                return Ok(Counted { totals: count.into_totals(), queues });
            }
        }
    }

    /// What is counted beside the census.
    pub(super) async fn rest(&self) -> Reading {
        let log = tokio::time::timeout(UNANSWERED, self.usage()).await.unwrap_or_default();
        Reading { census: None, connections: self.0.counters.snapshot(), log, ready: false }
    }

    /// What the logs take up, if that can be told. One look at a time: on a disk that hangs each would hold a thread.
    async fn usage(&self) -> Option<LogUsage> {
        let turn = self.0.looking.clone().lock_owned().await;
        let logs: Vec<_> = self.logs().map(|records| records.log.clone()).collect();
        // It goes on when nobody waits for it any more, and keeps its turn until then.
        let looked = tokio::spawn(async move {
            let mut all: Option<LogUsage> = None;
            for log in logs {
                if let Some(usage) = log.usage().await? {
                    all = Some(all.map_or(usage, |all| all.and(&usage)));
                }
            }
            drop(turn);
            Ok::<_, Error>(all)
        });
        looked.await.ok()?.unwrap_or_else(|error| {
            tracing::warn!(error = %ensync_core::report(&error), "cannot tell what the log takes up");
            None
        })
    }
}
