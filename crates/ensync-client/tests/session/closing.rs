//! `close` ends in its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensync_client::core::{Command, ErrorKind};
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, somebody};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn close_refuses_what_begins_after_it_and_answers_what_began_before() {
    let engine = Scripted::new(|_, command| match command {
        Command::Publish(_) => Answer::After(SECOND / 10, Box::new(Answer::Done)),
        _ => Answer::Done,
    });
    let client = engine.client().await;
    let refused = Arc::new(AtomicUsize::new(0));
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..16 {
        let (client, refused) = (client.clone(), refused.clone());
        publishers.spawn(async move {
            for n in 0..10_000 {
                match client.publish("a/b", &n).to(somebody()).await {
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Closed, "publisher {publisher}: {error}");
                        refused.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
        });
    }
    tokio::time::sleep(SECOND).await;
    let since = Instant::now();
    client.close().await.unwrap();
    assert!(since.elapsed() < SECOND, "{:?}", since.elapsed());
    while let Some(ended) = publishers.join_next().await {
        ended.unwrap();
    }
    assert_eq!(refused.load(Ordering::Relaxed), 16);
}
