//! The leases of what waits for its reader.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_client::Event;
use ensync_client::core::{Command, Delivery, Error, Reply, Settlement};
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, delivery};

const SECOND: Duration = Duration::from_secs(1);

/// When which delivery was extended.
type Extensions = Arc<Mutex<Vec<(String, Duration)>>>;

/// An engine that has leases of a length for each name, and answers extensions of each after some time.
fn engine(names: &'static [(&'static str, Duration, Duration)]) -> (Arc<Scripted>, Extensions) {
    let (extensions, begun) = (Extensions::default(), Instant::now());
    let noted = extensions.clone();
    let engine = Scripted::new(move |_, command| match command {
        Command::Settle(settle) if settle.how == Settlement::Extend => {
            let name = settle.event.as_ref().unwrap().as_str();
            noted.lock().unwrap().push((settle.id.to_string(), begun.elapsed()));
            let (_, lease, takes) = names.iter().find(|(known, ..)| *known == name).unwrap();
            Answer::After(*takes, Box::new(Answer::With(Reply::Extended { lease: Some(*lease) })))
        }
        _ => Answer::Done,
    });
    (engine, extensions)
}

/// The times between which a delivery was extended, from its arrival on.
fn gaps(extensions: &Extensions, id: &str, arrived: Duration) -> Vec<Duration> {
    let extensions = extensions.lock().unwrap();
    let times: Vec<_> =
        std::iter::once(arrived).chain(extensions.iter().filter(|(known, _)| known == id).map(|(_, at)| *at)).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

async fn hangs(_event: Event) -> Result<(), Error> {
    std::future::pending().await
}

/// What waits is extended when half of its own lease is over, whatever those of other names are, and however long theirs take.
#[tokio::test(start_paused = true)]
async fn a_name_is_looked_after_by_its_own_leases() {
    const NAMES: &[(&str, Duration, Duration)] = &[
        ("a/short", SECOND, Duration::from_millis(600)),
        ("a/slow", Duration::from_secs(10), Duration::from_secs(15)),
        ("a/quick", Duration::from_secs(10), Duration::from_millis(600)),
        ("a/long", Duration::from_secs(60), Duration::from_millis(600)),
        // Counted from when it was asked for, not from the answer.
        ("a/far", Duration::from_secs(10), Duration::from_secs(4)),
    ];
    let (engine, extensions) = engine(NAMES);
    let client = engine.client().await;
    let mut handlers = Vec::new();
    for (name, lease, _) in NAMES {
        handlers.push(client.subscribe(*name).await.unwrap().on(hangs));
        for n in 0..4 {
            engine
                .push(Delivery { lease: Some(*lease), ..delivery(name, &format!("{name}-{n}").replace('/', "-"), 1) });
        }
    }
    tokio::time::sleep(300 * SECOND).await;
    for (name, lease) in [("a-quick", 10 * SECOND), ("a-long", 60 * SECOND), ("a-far", 10 * SECOND)] {
        for n in 1..4 {
            let gaps = gaps(&extensions, &format!("{name}-{n}"), Duration::ZERO);
            let enough = (300 * SECOND).as_secs() / lease.as_secs();
            assert!(gaps.len() as u64 >= enough, "{name}-{n}: {gaps:?}");
            // Half of the lease, and at most an eighth more.
            let in_time = |gap: &Duration| (lease * 49 / 100..=lease * 65 / 100 + SECOND).contains(gap);
            assert!(gaps.iter().all(in_time), "{name}-{n}: {gaps:?}");
        }
    }
    drop(handlers);
}

/// What is left of a lease travels: one that was on its way for long is looked after sooner than those beside it.
#[tokio::test(start_paused = true)]
async fn one_that_was_long_on_its_way_is_looked_after_in_its_own_time() {
    const NAMES: &[(&str, Duration, Duration)] = &[("a/b", Duration::from_secs(60), Duration::ZERO)];
    let (engine, extensions) = engine(NAMES);
    let client = engine.client().await;
    let handler = client.subscribe("a/b").await.unwrap().on(hangs);
    for (id, lease) in [("first", 60), ("late", 4), ("last", 60)] {
        engine.push(Delivery { lease: Some(lease * SECOND), ..delivery("a/b", id, 1) });
    }
    tokio::time::sleep(100 * SECOND).await;
    let (late, last) = (gaps(&extensions, "late", Duration::ZERO), gaps(&extensions, "last", Duration::ZERO));
    assert!((2 * SECOND..3 * SECOND).contains(&late[0]), "{late:?}");
    // From then on it has as much time as they.
    assert!(late[1..].iter().chain(&last).all(|gap| (29 * SECOND..40 * SECOND).contains(gap)), "{late:?} {last:?}");
    assert!(late.len() >= 3 && last.len() >= 2, "{late:?} {last:?}");
    drop(handler);
}
