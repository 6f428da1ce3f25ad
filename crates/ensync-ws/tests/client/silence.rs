//! An engine that says too little, or too much of nothing; and a user who gives the link up.

use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn impatient() -> WsConnector {
    WsConnector::new(Dialer::default()).answer_timeout(Duration::from_millis(200))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.unwrap()
}

#[tokio::test]
async fn a_request_that_is_never_answered_ends_the_link() {
    let (mut link, mut engine) = linked_by(impatient(), "+PASS:{clientId=c-1}").await;
    let unanswered = call(&link.transport, resume("a"));
    hear(&mut engine).await;
    // Its caller gives up, which changes nothing: the place is kept, and watched.
    unanswered.abort();
    let interrupted = call(&link.transport, resume("b"));
    hear(&mut engine).await;
    assert_eq!(soon(interrupted).await.unwrap().unwrap_err().kind(), ErrorKind::Interrupted);
    let error = soon(link.inbox.try_next()).await.unwrap_err();
    assert!(error.to_string().contains("owes an answer"), "{error}");
    assert_eq!(link.transport.call(resume("c")).await.unwrap_err().kind(), ErrorKind::Closed);
}

/// One answer is missing, so each goes to the request before its own; and requests never cease.
#[tokio::test]
async fn answers_that_are_shifted_end_the_link_under_any_load() {
    let (mut link, mut engine) = linked_by(impatient(), "+PASS:{clientId=c-1}").await;
    let transport = link.transport.clone();
    let busy = tokio::spawn(async move {
        let calls = futures::stream::iter(0_u64..).map(|n| {
            let transport = transport.clone();
            async move { transport.call(resume(&format!("n/{n}"))).await }
        });
        let mut calls = calls.buffer_unordered(8);
        while let Some(answer) = calls.next().await {
            if answer.is_err() {
                break;
            }
        }
    });
    let engine = tokio::spawn(async move {
        hear(&mut engine).await;
        while let Some(Ok(message)) = engine.next().await {
            if message.is_text() && engine.send(Message::text("+PASS:")).await.is_err() {
                break;
            }
        }
    });
    let error = soon(link.inbox.try_next()).await.unwrap_err();
    assert!(error.to_string().contains("owes an answer"), "{error}");
    soon(busy).await.unwrap();
    engine.abort();
}

#[tokio::test]
async fn an_engine_that_answers_all_is_not_given_up() {
    let (link, mut engine) = linked_by(impatient(), "+PASS:{clientId=c-1}").await;
    let engine = tokio::spawn(async move {
        while let Some(Ok(message)) = engine.next().await {
            if message.is_text() {
                tokio::time::sleep(Duration::from_millis(2)).await;
                engine.send(Message::text("+PASS:")).await.unwrap();
            }
        }
    });
    // For five times as long as one answer may take, and through many pauses.
    let until = tokio::time::Instant::now() + Duration::from_secs(1);
    while tokio::time::Instant::now() < until {
        let calls = (0..20).map(|n| link.transport.call(resume(&format!("n/{n}"))));
        for answer in soon(futures::future::join_all(calls)).await {
            answer.unwrap();
        }
    }
    engine.abort();
}

#[tokio::test]
async fn a_link_that_is_given_up_ends_whoever_holds_it() {
    let (mut link, mut engine) = linked().await;
    let waiting = call(&link.transport, resume("a"));
    hear(&mut engine).await;
    say(&mut engine, &record("e-1")).await;
    assert_eq!(link.inbox.try_next().await.unwrap().unwrap().id.as_str(), "e-1");
    let beat = call(&link.transport, Command::Heartbeat);
    // Both wait, and the engine reads nothing more.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let cause = || Error::new(ErrorKind::Timeout, "it is dead");
    link.transport.abort(cause());
    for call in [waiting, beat] {
        let interrupted = soon(call).await.unwrap().unwrap_err();
        assert_eq!(interrupted.kind(), ErrorKind::Interrupted);
        assert_eq!(std::error::Error::source(&interrupted).unwrap().to_string(), "it is dead");
    }
    assert_eq!(soon(link.inbox.try_next()).await.unwrap_err().to_string(), "it is dead");
    assert!(link.inbox.next().await.is_none());
    // The transport is still held, and the socket is closed all the same, without a goodbye.
    let end = soon(async {
        while let Some(Ok(message)) = engine.next().await {
            assert!(message.is_ping(), "{message}")
        }
    });
    end.await;
    assert_eq!(link.transport.call(resume("b")).await.unwrap_err().kind(), ErrorKind::Closed);
    link.transport.abort(cause());
    link.transport.close().await;
}

#[tokio::test]
async fn a_goodbye_is_cut_short() {
    let (link, engine) = linked().await;
    let closing = {
        let transport = link.transport.clone();
        tokio::spawn(async move { transport.close().await })
    };
    tokio::task::yield_now().await;
    let before = std::time::Instant::now();
    link.transport.abort(Error::new(ErrorKind::Timeout, "enough"));
    soon(closing).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1), "the engine, which reads nothing, was waited for");
    drop(engine);
}

#[tokio::test]
async fn a_heartbeat_overtakes_calls() {
    let (link, mut engine) = linked().await;
    // More than the engine takes: they fill the pipeline and every queue before it.
    let calls: Vec<_> = (0..5_000).map(|n| call(&link.transport, resume(&format!("a/{n}")))).collect();
    let mut heard = 0;
    while heard < 4_096 {
        hear(&mut engine).await;
        heard += 1;
    }
    let beat = call(&link.transport, Command::Heartbeat);
    assert!(matches!(soon(engine.next()).await.unwrap().unwrap(), Message::Ping(_)));
    engine.flush().await.unwrap();
    assert_eq!(soon(beat).await.unwrap().unwrap(), Reply::Done);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn silence_is_measured_in_bytes_not_in_frames() {
    let (link, mut engine) = linked().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(link.transport.silent_for().unwrap() >= Duration::from_millis(40));
    // The first byte of a frame of text, of which no more comes.
    engine.get_mut().write_all(&[0x81]).await.unwrap();
    soon(async {
        while link.transport.silent_for().unwrap() >= Duration::from_millis(40) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_pings_and_reads_nothing_makes_nobody_buffer() {
    let (_link, mut engine) = linked().await;
    let many = [&[0x89, 125][..], &[b'x'; 125]].concat().repeat(1_000);
    let mut written = 0;
    while let Ok(done) = timeout(Duration::from_secs(1), engine.get_mut().write_all(&many)).await {
        done.unwrap();
        written += many.len();
        // The network of one machine takes some megabytes each way.
        assert!(written < 64 * 1024 * 1024, "pongs gather without bound");
    }
}

#[tokio::test]
async fn what_a_refusal_says_is_bounded() {
    let (link, mut engine) = linked().await;
    let refused = call(&link.transport, resume("a"));
    hear(&mut engine).await;
    say(&mut engine, &format!("-FAIL:unknown_event: {}", "é".repeat(1024 * 1024))).await;
    let error = refused.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownEvent);
    assert!(error.to_string().len() <= 1100 && error.to_string().contains('…'), "{}", error.to_string().len());
}

/// While requests are held back, who gives up has given up: his request does not go out later.
#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_sent() {
    let (link, mut engine) = linked().await;
    let first = call(&link.transport, resume("the/first"));
    hear(&mut engine).await;
    // Requests have overlapped for so long that all must be answered before another is sent.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let given_up = call(&link.transport, resume("the/second"));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    let last = call(&link.transport, resume("the/third"));
    say(&mut engine, "+PASS:").await;
    soon(first).await.unwrap().unwrap();
    let heard = soon(hear(&mut engine)).await;
    assert!(heard.contains("the/third"), "{heard}");
    say(&mut engine, "+PASS:").await;
    soon(last).await.unwrap().unwrap();
}
