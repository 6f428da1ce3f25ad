//! Two that believe that they own a log.

use super::super::message::{Message, pieces, position};
use super::super::stream::Expect;
use super::*;

/// What a log says once another engine has it.
fn assert_lost(log: &JetStreamLog, error: &ensync_core::Error) {
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("another engine has opened the log in the stream LOG"), "{error}");
    assert_eq!(log.failure().unwrap().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn of_two_only_the_one_that_opened_it_last_appends() {
    let Some(server) = Server::start().await else { return };
    let (one, two) = (open(&server.connect().await, "LOG").await, open(&server.connect().await, "LOG").await);
    assert_eq!((one.epoch(), two.epoch()), (1, 2));
    // Both at once, many at once.
    let (ones, twos) = tokio::join!(
        futures::future::join_all((0..50).map(|n| one.append(vec![record(&format!("one {n}"))]))),
        futures::future::join_all((0..50).map(|n| two.append(vec![record(&format!("two {n}"))]))),
    );
    for refused in ones {
        assert_lost(&one, &refused.unwrap_err());
    }
    assert!(twos.iter().all(Result::is_ok));
    assert_lost(&one, &one.append(vec![record("one more")]).await.unwrap_err());
    assert_lost(&one, &one.failed().await);
    let expected: Vec<_> = (0..50).map(|n| format!("two {n}")).collect();
    assert_eq!(texts(&two).await, expected);
    one.close().await;
    two.append(vec![record("two more")]).await.unwrap();
    // What was stored can be read by the one that lost it.
    assert!(one.read(Position::new(u64::MAX)).await.unwrap().is_none());
}

/// Whatever is under way when another engine opens the log: what was answered is there, and what was refused is not.
#[tokio::test]
async fn what_was_answered_before_a_takeover_is_there_and_what_was_refused_is_not() {
    let Some(server) = Server::start().await else { return };
    let (nats, other) = (server.connect().await, server.connect().await);
    let mut expected = Vec::new();
    let mut log = Arc::new(open(&nats, "LOG").await);
    for round in 0..10 {
        let before = log.shared.last();
        let appends: Vec<_> = (0..200)
            .map(|n| {
                let log = log.clone();
                tokio::spawn(async move {
                    // Some are several messages.
                    let batch =
                        vec![record(&format!("{round} {n} {}", "x".repeat(if n % 7 == 0 { 50_000 } else { 10 }))); 2];
                    let text = String::from_utf8(batch[0].to_bytes().to_vec()).unwrap();
                    (text, log.append(batch).await)
                })
            })
            .collect();
        until(async || log.shared.last() >= before + 2 * round).await;
        let next = Arc::new(open(if round % 2 == 0 { &other } else { &nats }, "LOG").await);
        let mut stored = Vec::new();
        for append in appends {
            let (text, answer) = append.await.unwrap();
            match answer {
                Ok(positions) => stored.push((positions[0], text)),
                Err(error) => assert_lost(&log, &error),
            }
        }
        stored.sort();
        expected.extend(stored.into_iter().flat_map(|(_, text)| [text.clone(), text]));
        assert!(texts(&next).await == expected, "round {round}");
        log = next;
    }
    assert!(expected.len() > 40, "{}", expected.len());
}

/// As if a message of the one that lost the log had found just the sequence that it expects.
#[tokio::test]
async fn what_is_stored_behind_an_opening_does_not_count() {
    let Some(server) = Server::start().await else { return };
    let nats = server.connect().await;
    let one = open(&nats, "LOG").await;
    one.append(vec![record("one")]).await.unwrap();
    let term = *one.shared.openings().last().unwrap();
    let two = open(&nats, "LOG").await;
    for round in 0..3 {
        let link = &two.shared.link;
        let (late, _) = pieces(&[record("late")], (1_000, 1_000));
        let message = late[0].message(&two.shared.id, (term, 2 + round, 0), (0, 1));
        let expect = Expect::Last(two.shared.last());
        let answer = link.publish((link.subjects.part(term + 1), message.clone()), expect, false).await.unwrap();
        let sequence = answer.await.unwrap().sequence;
        assert!(matches!(Message::decode(&message, &two.shared.id), Ok(Message::Records(_))));
        let at = two.append(vec![record(&format!("two {round}"))]).await.unwrap()[0];
        assert!(at > position(sequence, 0));
        for log in [&two, &one] {
            assert_eq!(log.read(position(sequence, 0)).await.unwrap(), None, "round {round}");
        }
    }
    assert_eq!(texts(&two).await, ["one", "two 0", "two 1", "two 2"]);
    let three = open(&nats, "LOG").await;
    assert_eq!(texts(&three).await, ["one", "two 0", "two 1", "two 2"]);
    assert_lost(&one, &one.append(vec![record("one more")]).await.unwrap_err());
}

#[tokio::test]
async fn of_many_that_open_it_at_once_each_has_an_epoch_of_its_own() {
    let Some(server) = Server::start().await else { return };
    let nats = server.connect().await;
    let opened = futures::future::join_all((0..6).map(|_| JetStreamLog::open(&nats, "LOG", options()))).await;
    let mut logs: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
    logs.sort_by_key(Log::epoch);
    assert_eq!(logs.iter().map(Log::epoch).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let last = logs.pop().unwrap();
    for log in &logs {
        assert_lost(log, &log.append(vec![record("old")]).await.unwrap_err());
    }
    last.append(vec![record("new")]).await.unwrap();
    assert_eq!(texts(&last).await, ["new"]);
}

/// It drops nothing, either: what it does not need any more the next one may need again.
#[tokio::test]
async fn whoever_lost_the_log_drops_nothing() {
    let Some(server) = Server::start().await else { return };
    let nats = server.connect().await;
    let one = open(&nats, "LOG").await;
    let mut last = Position::START;
    for n in 0..40 {
        last = one.append(vec![record(&format!("{n} {}", "x".repeat(10_000)))]).await.unwrap()[0];
    }
    one.save_checkpoint(last, vec![Bytes::from("state")]).await.unwrap();
    let parts = one.space().await.unwrap().unwrap().parts;
    let two = open(&nats, "LOG").await;
    let error = one.drop_range(parts[0].from, parts[0].to).await.unwrap_err();
    assert_lost(&one, &error);
    assert_eq!(texts(&two).await.len(), 40);
    two.drop_range(parts[0].from, parts[0].to).await.unwrap();
    assert!(texts(&two).await.len() < 40);
}
