//! Answers that are lost, and messages that come late.

use super::*;

async fn last_sequence(server: &Server, name: &str) -> u64 {
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    context.get_stream(name).await.unwrap().cached_info().state.last_sequence
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_is_found_and_stored_once() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::of(&server).await;
    let log = Arc::new(open(&proxy.connect().await, "LOG").await);
    let mut expected = Vec::new();
    for round in 0..3 {
        let before = last_sequence(&server, "LOG").await;
        proxy.mute(true);
        // One is a message, one is several.
        let texts = [format!("{round} small"), format!("{round} large {}", "x".repeat(100_000))];
        let appends = texts.clone().map(|text| {
            let log = log.clone();
            tokio::spawn(async move { log.append(vec![record(&text), record(&text)]).await })
        });
        until(async || last_sequence(&server, "LOG").await > before).await;
        proxy.cut();
        proxy.mute(false);
        let mut positions = Vec::new();
        for append in appends {
            positions.extend(append.await.unwrap().unwrap());
        }
        for (at, text) in positions.iter().zip(texts.iter().flat_map(|text| [text, text])) {
            assert_eq!(log.read(*at).await.unwrap().unwrap(), text.as_bytes());
            expected.push((*at, text.clone()));
        }
    }
    expected.sort();
    let expected: Vec<_> = expected.into_iter().map(|(_, text)| text).collect();
    assert!(texts(&log).await == expected);
    let next = open(&server.connect().await, "LOG").await;
    assert!(texts(&next).await == expected);
    assert_eq!((log.epoch(), next.epoch()), (1, 2), "it was one run");
}

/// They reach the server when nobody expects them any more.
#[tokio::test]
async fn messages_that_come_late_are_not_stored_a_second_time() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::of(&server).await;
    let log = Arc::new(open(&proxy.connect().await, "LOG").await);
    log.append(vec![record("first")]).await.unwrap();
    proxy.hold(true);
    let appends: Vec<_> = (0..8)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move { log.append(vec![record(&format!("late {n}"))]).await })
        })
        .collect();
    until(async || proxy.held() > 0).await;
    proxy.cut();
    for append in appends {
        append.await.unwrap().unwrap();
    }
    // Only now does the server get what was said on the first connection.
    assert!(proxy.held() > 0);
    proxy.hold(false);
    until(async || proxy.held() == 0).await;
    let mut found = texts(&log).await;
    assert_eq!(found.remove(0), "first");
    found.sort();
    assert_eq!(found, (0..8).map(|n| format!("late {n}")).collect::<Vec<_>>());
    log.append(vec![record("last")]).await.unwrap();
    assert_eq!(texts(&log).await.last().unwrap(), "last");
}

/// Another engine takes the log while nobody knows what is stored.
#[tokio::test]
async fn what_was_stored_before_a_takeover_is_answered_though_its_answer_was_lost() {
    let Some(server) = Server::start().await else { return };
    let proxy = Proxy::of(&server).await;
    let log = Arc::new(open(&proxy.connect().await, "LOG").await);
    let before = last_sequence(&server, "LOG").await;
    proxy.mute(true);
    let append = tokio::spawn({
        let log = log.clone();
        async move { log.append(vec![record("stored")]).await }
    });
    until(async || last_sequence(&server, "LOG").await > before).await;
    let next = open(&server.connect().await, "LOG").await;
    proxy.cut();
    proxy.mute(false);
    let at = append.await.unwrap().unwrap()[0];
    assert_eq!(next.read(at).await.unwrap().unwrap(), "stored");
    assert_eq!(texts(&next).await, ["stored"]);
    until(async || log.failure().is_some()).await;
    assert_eq!(log.append(vec![record("more")]).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
