//! Servers that stop, stand still, are full, or lose the stream.

use super::*;

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_loses_nothing() {
    let Some(mut server) = Server::start().await else { return };
    let log = Arc::new(open(&server.connect().await, "LOG").await);
    let writer = |from: u32| {
        let log = log.clone();
        tokio::spawn(async move {
            for n in from..from + 100 {
                log.append(vec![record(&format!("{n:04}"))]).await.unwrap();
            }
        })
    };
    let writers = [writer(0), writer(1_000), writer(2_000)];
    for _ in 0..2 {
        let before = log.shared.last();
        until(async || log.shared.last() > before + 20).await;
        server.kill();
        server.start_again().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut found = texts(&log).await;
    let order: Vec<_> = found.iter().filter(|text| text.starts_with('1')).cloned().collect();
    assert!(order.is_sorted());
    found.sort();
    let expected: Vec<_> = (0..3_u32).flat_map(|k| (0..100).map(move |n| format!("{:04}", k * 1_000 + n))).collect();
    assert_eq!(found, expected);
    assert_eq!(log.epoch(), 1);
}

#[tokio::test]
async fn a_server_that_stands_still_only_takes_longer() {
    let Some(server) = Server::start().await else { return };
    let nats = server.connect().await;
    let log = Arc::new(open_impatient(&nats).await);
    log.append(vec![record("before")]).await.unwrap();
    server.stand_still(true);
    let append = tokio::spawn({
        let log = log.clone();
        async move { log.append(vec![record("meanwhile")]).await }
    });
    // Longer than an answer is waited for: it is asked what became of it, more than once.
    until(async || log.shared.waits.longest().is_some_and(|waited| waited > Duration::from_secs(1))).await;
    assert!(!append.is_finished());
    server.stand_still(false);
    append.await.unwrap().unwrap();
    assert_eq!(texts(&log).await, ["before", "meanwhile"]);
    assert!(log.shared.waits.longest().is_none() && log.failure().is_none());
}

#[tokio::test]
async fn a_log_without_a_server_can_be_closed_and_says_that_it_does_not_know() {
    let Some(mut server) = Server::start().await else { return };
    let nats = server.connect().await;
    let log = Arc::new(open_impatient(&nats).await);
    server.kill();
    let append = tokio::spawn({
        let log = log.clone();
        async move { log.append(vec![record("perhaps")]).await }
    });
    until(async || log.shared.waits.longest().is_some()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    log.close().await;
    let error = append.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert!(error.to_string().contains("whether this is stored shows when the log is opened again"), "{error}");
    let error = log.read(Position::new(2 << 16)).await.unwrap();
    assert!(error.is_none(), "nothing is there");
    server.start_again().await;
    let next = open(&server.connect().await, "LOG").await;
    assert!(texts(&next).await.len() <= 1);
}

#[tokio::test]
async fn a_stream_that_is_deleted_ends_the_log() {
    let Some(server) = Server::start().await else { return };
    let nats = server.connect().await;
    let log = open(&nats, "LOG").await;
    log.append(vec![record("one")]).await.unwrap();
    log.shared.link.context.delete_stream("LOG").await.unwrap();
    let error = log.append(vec![record("two")]).await.unwrap_err();
    assert!(
        error.to_string().contains("the stream LOG on NATS at 127.0.0.1") && error.to_string().contains("was deleted"),
        "{error}"
    );
    assert!(log.failure().is_some());
}

/// Near its end it takes what makes space again, and nothing else; and it goes on when there is some.
#[tokio::test]
async fn a_full_stream_refuses_what_grows_and_takes_the_rest() {
    let Some(server) = Server::start().await else { return };
    let most = 2 << 20;
    let options = JetStreamOptions { max_bytes: Some(most), ..options() };
    let log = JetStreamLog::open(&server.connect().await, "LOG", options).await.unwrap();
    let (mut count, mut last) = (0, Position::START);
    let error = loop {
        match log.append(vec![Encoded::new(vec![1; 10_000], "", true)]).await {
            Ok(positions) => (count, last) = (count + 1, positions[0]),
            Err(error) => break error,
        }
    };
    assert!((150..210).contains(&count), "{count}");
    let full = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    assert_eq!(full.unwrap().kind(), std::io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("no space for the log in the stream LOG"), "{error}");
    assert!(log.failure().is_none());
    let at = log.append(vec![Encoded::new("an acknowledgement", "", false)]).await.unwrap()[0];
    assert!(at > last);
    // What is refused by the server itself.
    let error = loop {
        if let Err(error) = log.append(vec![Encoded::new(vec![1; 20_000], "", false)]).await {
            break error;
        }
    };
    assert!(error.to_string().contains("maximum bytes exceeded"), "{error}");
    assert!(log.failure().is_none());
    let both = [Encoded::new(vec![2; 90_000], "", false), Encoded::new("small", "", false)];
    let [large, small] = both.map(|record| log.append(vec![record]));
    let (large, small) = tokio::join!(large, small);
    assert!(large.is_err() && small.is_ok(), "one that is refused is no reason to refuse those behind it");
    log.save_checkpoint(last, vec![Bytes::from("state")]).await.unwrap();
    let space = log.space().await.unwrap().unwrap();
    assert!(space.total == most && space.free < most / 16 && space.parts.len() > 5, "{space:?}");
    log.drop_range(Position::START, space.parts[4].to).await.unwrap();
    assert!(log.space().await.unwrap().unwrap().free > space.free + 200_000);
    log.append(vec![Encoded::new(vec![1; 10_000], "", true)]).await.unwrap();
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_refused_as_a_whole() {
    let Some(server) = Server::start().await else { return };
    let log = open(&server.connect().await, "LOG").await;
    let piece = Bytes::from(vec![1; 3 << 20]);
    let batch = |count: usize| (0..count).map(|_| Encoded::new(piece.clone(), "", true)).collect::<Vec<_>>();
    let error = log.append(batch(22)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    // As large as it may be: many messages, and each record larger than one.
    assert_eq!(log.append(batch(21)).await.unwrap().len(), 21);
    let found = log.scan(Position::START).map(|found| found.unwrap().1.len()).collect::<Vec<_>>().await;
    assert_eq!(found, [3 << 20; 21]);
}
