//! What is counted.

use std::time::Duration;

use ensync_client::Unopenable;
use ensync_client::core::{Delivery, Extension};
use futures::StreamExt;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::scripted::{Answer, Scripted, delivery, somebody};

/// The total of a counter, whatever its labels, and those.
fn counted(snapshotter: &Snapshotter, name: &str) -> (u64, Vec<(String, String)>) {
    let (mut total, mut labels) = (0, Vec::new());
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        if key.key().name() == name
            && let DebugValue::Counter(count) = value
        {
            total += count;
            labels.extend(key.key().labels().map(|label| (label.key().to_owned(), label.value().to_owned())));
        }
    }
    (total, labels)
}

#[tokio::test(start_paused = true)]
async fn reconnects_are_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    for link in 1..=3 {
        client.publish("a/b", &link).to(somebody()).await.unwrap();
        engine.end(link, None);
        client.publish("a/b", &link).to(somebody()).await.unwrap();
    }
    assert_eq!(counted(&snapshotter, "ensync_client_reconnects_total").0, 3);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_open_is_counted_by_kind_and_policy() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let engine = Scripted::new(|_, _| Answer::Done);
    let client = engine.client().await;
    let mut orders = client.subscribe("a/b").unopenable(Unopenable::Discard).await.unwrap();
    for n in 0..5 {
        engine.push(delivery("a/b", &format!("e{n}"), 1));
    }
    assert!(tokio::time::timeout(Duration::from_secs(1), orders.next()).await.is_err());
    let (total, labels) = counted(&snapshotter, "ensync_client_unopenable_total");
    assert_eq!(total, 5);
    let expected = [("kind", "malformed_envelope"), ("policy", "discard")];
    assert_eq!(labels, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_in_its_lease_is_counted() {
    // With an engine that takes back what is handed back, and with one that does not know the word: there the leases run out.
    for extensions in [Extension::ALL, [Extension::Fencing].as_slice()] {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let engine = Scripted::with(extensions, |_, _| Answer::Done);
        let client = engine.client().await;
        let mut orders = client.subscribe("a/b").await.unwrap();
        let lease = Some(Duration::from_secs(8));
        for n in 0..5 {
            engine.push(Delivery { lease, ..delivery("a/b", &format!("e{n}"), 1) });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        orders.next().await.unwrap().unwrap().ack().await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        engine.push(delivery("a/b", "anew", 2));
        assert_eq!(orders.next().await.unwrap().unwrap().id().as_str(), "anew");
        assert_eq!(orders.ran_out(), 4);
        assert_eq!(counted(&snapshotter, "ensync_client_unread_total").0, 4);
    }
}
