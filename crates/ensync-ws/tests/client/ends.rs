//! The ways in which a link ends.

use super::*;

#[tokio::test]
async fn a_heartbeat_that_is_not_answered_disturbs_nobody() {
    let (link, mut engine) = linked().await;
    // A pong that nobody asked for.
    engine.send(Message::Pong("x".into())).await.unwrap();
    let other = call(&link.transport, resume("a"));
    hear(&mut engine).await;
    say(&mut engine, "+PASS:").await;
    assert_eq!(other.await.unwrap().unwrap(), Reply::Done);
    let beat = call(&link.transport, Command::Heartbeat);
    // The ping arrived, but what comes back is not its pong, and then the socket goes.
    engine.get_mut().read_u8().await.unwrap();
    engine.send(Message::Pong(u64::MAX.to_be_bytes().to_vec().into())).await.unwrap();
    drop(engine);
    assert_eq!(beat.await.unwrap().unwrap_err().kind(), ErrorKind::Interrupted);
}

/// Everything that a failed link owes: `Interrupted` to who waits, one error to the inbox, `Closed` from then on.
async fn fails_as(mut link: Link, waiting: tokio::task::JoinHandle<Result<Reply>>, kind: ErrorKind, part: &str) {
    let interrupted = waiting.await.unwrap().unwrap_err();
    assert_eq!(interrupted.kind(), ErrorKind::Interrupted);
    assert!(std::error::Error::source(&interrupted).unwrap().to_string().contains(part), "{interrupted:?}");
    let error = link.inbox.try_next().await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
    assert!(link.inbox.next().await.is_none() && link.inbox.next().await.is_none());
    for command in [resume("a"), Command::Heartbeat] {
        assert_eq!(link.transport.call(command).await.unwrap_err().kind(), ErrorKind::Closed);
    }
    link.transport.close().await;
}

#[tokio::test]
async fn an_engine_that_vanishes_interrupts() {
    let (link, mut engine) = linked().await;
    let waiting = call(&link.transport, resume("a"));
    hear(&mut engine).await;
    drop(engine);
    fails_as(link, waiting, ErrorKind::Interrupted, "without a goodbye").await;
}

#[tokio::test]
async fn an_engine_that_closes_says_why() {
    // In good order, which is followed at once, or not.
    for (code, kind) in [
        (CloseCode::Normal, ErrorKind::Closed),
        (CloseCode::Away, ErrorKind::Closed),
        (CloseCode::Restart, ErrorKind::Closed),
        (CloseCode::Again, ErrorKind::Interrupted),
        (CloseCode::Policy, ErrorKind::Interrupted),
        (CloseCode::Error, ErrorKind::Interrupted),
    ] {
        let (link, mut engine) = linked().await;
        let waiting = call(&link.transport, resume("a"));
        hear(&mut engine).await;
        let close = CloseFrame { code, reason: Utf8Bytes::from_static("restarting") };
        engine.close(Some(close)).await.unwrap();
        let part = format!("the engine closed the connection: {} \"restarting\"", u16::from(code));
        fails_as(link, waiting, kind, &part).await;
        // The goodbye was returned, so the engine's own close is a clean one.
        assert!(matches!(engine.next().await, Some(Ok(Message::Close(_)))));
    }
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_link() {
    for (frame, part) in [
        (Message::text("+PASS:for whom"), "no request waits for"),
        (Message::text("+REPLAY:{}"), "not of its request's kind"),
        (Message::text("hello"), "neither an answer nor an event"),
        (Message::binary(vec![1, 2, 3]), "binary frame"),
    ] {
        let (link, mut engine) = linked().await;
        let waiting = call(&link.transport, resume("a"));
        hear(&mut engine).await;
        if part.contains("no request") {
            // The heartbeat is the call that still waits when an answer too many comes.
            say(&mut engine, "+PASS:").await;
            waiting.await.unwrap().unwrap();
            let waiting = call(&link.transport, Command::Heartbeat);
            engine.get_mut().read_u8().await.unwrap();
            engine.send(frame).await.unwrap();
            fails_as(link, waiting, ErrorKind::Protocol, part).await;
        } else {
            engine.send(frame).await.unwrap();
            fails_as(link, waiting, ErrorKind::Protocol, part).await;
        }
    }
}

#[tokio::test]
async fn a_frame_that_is_too_long_ends_the_link() {
    let connector = WsConnector::new(Dialer::default()).max_frame_bytes(1024);
    let (link, mut engine) = linked_by(connector, "+PASS:{clientId=c-1}").await;
    let waiting = call(&link.transport, resume("a"));
    hear(&mut engine).await;
    engine.send(Message::text("x".repeat(1024 + 65 * 1024))).await.unwrap();
    fails_as(link, waiting, ErrorKind::Protocol, "the limit is 66560").await;
}

#[tokio::test]
async fn events_that_nobody_takes_end_the_link_at_the_limit() {
    let connector = WsConnector::new(Dialer::default()).max_unread_bytes(2048);
    let (mut link, mut engine) = linked_by(connector, "+PASS:{clientId=c-1}").await;
    let cost = record("e-1").len() + 64;
    // Reading makes room again: three times the limit passes.
    for _ in 0..(3 * 2048 / cost) {
        say(&mut engine, &record("e-1")).await;
        link.inbox.try_next().await.unwrap().unwrap();
    }
    let fit = 2048 / cost;
    let waiting = call(&link.transport, resume("a"));
    hear(&mut engine).await;
    for _ in 0..=fit {
        say(&mut engine, &record("e-2")).await;
    }
    let interrupted = waiting.await.unwrap().unwrap_err();
    assert_eq!(interrupted.kind(), ErrorKind::Interrupted);
    let mut read = 0;
    let error = loop {
        match link.inbox.next().await.unwrap() {
            Ok(_) => read += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((read, error.kind()), (fit, ErrorKind::LimitExceeded));
    assert!(error.to_string().contains("2048 bytes of events that nobody took"), "{error}");
    assert!(link.inbox.next().await.is_none());
}

#[tokio::test]
async fn closing_says_goodbye_and_the_inbox_ends_without_error() {
    let (link, mut engine) = linked().await;
    say(&mut engine, &record("e-1")).await;
    say(&mut engine, "PING").await;
    hear(&mut engine).await;
    let Link { transport, inbox, .. } = link;
    let waiting = call(&transport, resume("a"));
    hear(&mut engine).await;
    let engine = tokio::spawn(async move {
        let goodbye = engine.next().await.unwrap().unwrap();
        // The client keeps listening until we say goodbye too.
        let end = engine.next().await;
        (goodbye, end.is_none())
    });
    tokio::join!(transport.close(), transport.close());
    let (goodbye, clean) = engine.await.unwrap();
    assert!(matches!(goodbye, Message::Close(Some(frame)) if frame.code == CloseCode::Normal));
    assert!(clean);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(transport.call(resume("a")).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(inbox.try_collect::<Vec<_>>().await.unwrap().len(), 1);
    transport.close().await;
}

#[tokio::test]
async fn dropping_both_ends_closes_the_socket() {
    let (link, mut engine) = linked().await;
    let Link { transport, mut inbox, .. } = link;
    drop(transport);
    // One end is enough to keep it open.
    say(&mut engine, &record("e-1")).await;
    assert_eq!(inbox.try_next().await.unwrap().unwrap().id.as_str(), "e-1");
    drop(inbox);
    assert!(matches!(engine.next().await, Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Normal));
    assert!(engine.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_is_not_returned_is_not_awaited_for_ever() {
    let (link, engine) = linked().await;
    // The engine neither reads nor closes.
    link.transport.close().await;
    assert!(link.inbox.collect::<Vec<_>>().await.is_empty());
    drop(engine);
}
