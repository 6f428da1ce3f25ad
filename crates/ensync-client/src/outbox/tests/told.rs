//! What is told to listeners and counted.

use futures::StreamExt;

use super::*;

#[tokio::test]
async fn a_slow_listener_is_told_how_much_it_missed() {
    let listeners = broadcast::Sender::new(1);
    let mut heard = outcome::stream(listeners.subscribe());
    for n in 1..=3 {
        outcome::tell(
            &listeners,
            OutboxOutcome::Expired { about: entry(n).about(QueuedId(n.into()), clock::Steps::default()) },
        );
    }
    assert!(matches!(heard.next().await, Some(OutboxOutcome::Missed { outcomes: 2 })));
    assert!(matches!(heard.next().await, Some(OutboxOutcome::Expired { about }) if about.queued == QueuedId(3)));
    drop(listeners);
    assert!(heard.next().await.is_none());
}

/// Each outcome under its own name, and what was merely missed under none.
#[cfg(feature = "metrics")]
#[test]
fn outcomes_are_counted_by_name() {
    use std::collections::BTreeMap;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let about = || entry(1).about(QueuedId(1), clock::Steps::default());
    let why = || Error::new(ErrorKind::Refused, "no");
    metrics::with_local_recorder(&recorder, || {
        let listeners = broadcast::Sender::new(1);
        let tell = |outcome| outcome::tell(&listeners, outcome);
        (0..5).for_each(|_| tell(OutboxOutcome::Accepted { about: about(), id: "e".parse().unwrap() }));
        (0..4).for_each(|_| tell(OutboxOutcome::Parked { about: about(), why: why() }));
        (0..3).for_each(|_| tell(OutboxOutcome::Expired { about: about() }));
        (0..2).for_each(|_| tell(OutboxOutcome::Dropped { about: about() }));
        tell(OutboxOutcome::Damaged { queued: QueuedId(1), why: why() });
        tell(OutboxOutcome::Missed { outcomes: 7 });
    });
    let counted: BTreeMap<_, _> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter_map(|(key, _, _, value)| {
            let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value().to_owned())).collect();
            let DebugValue::Counter(count) = value else { return None };
            assert_eq!(key.key().name(), "ensync_client_outbox_outcomes_total");
            let [("outcome", outcome)] = &labels[..] else { panic!("{labels:?}") };
            Some((outcome.clone(), count))
        })
        .collect();
    let expected = [("accepted", 5), ("parked", 4), ("expired", 3), ("dropped", 2), ("damaged", 1)];
    assert_eq!(counted, expected.map(|(name, count)| (name.to_owned(), count)).into());
}
