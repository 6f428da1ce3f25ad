//! Commands, answers and events on a connection that is logged in.

use super::*;

#[tokio::test]
async fn answers_come_in_order_though_later_requests_finish_first() {
    let (mut client, script, server) = logged_in().await;
    let release = script.hold("slow");
    for name in ["slow", "quick", "unknown/x"] {
        client.say(&ask(name)).await;
    }
    client.say("REPLAY;CLIENT_ID=:c-1;EVENT_IDEM=:e;EVENT_NAME=:r").await;
    client.say("DEFER;CLIENT_ID=:c-1;EVENT_IDEM=:e;EVENT_NAME=:a;DELAY=:0;REASON=:x").await;
    // An event goes out while the first answer is still due, and by then the later requests are done.
    script.push(delivery("e-1"));
    assert!(client.hear().await.starts_with(r#"+RECORD:{"name":"a","idem":"e-1""#));
    client.say("PING").await;
    assert_eq!(client.hear().await, "PONG");
    assert_eq!(script.done(), ["quick", "unknown/x", "r", "e"]);
    release.send(()).unwrap();
    assert_eq!(client.hear().await, "+PASS:slow");
    assert_eq!(client.hear().await, "+PASS:quick");
    assert_eq!(client.hear().await, "-FAIL:unknown_event: no event unknown/x");
    assert!(client.hear().await.starts_with(r#"+REPLAY:{"name":"a","idem":"replayed""#));
    assert_eq!(client.hear().await, "+PASS:deliveryTime=7");
    drop(client);
    server.await.unwrap();
    assert_eq!(script.done().last().unwrap(), "logout");
}

#[tokio::test]
async fn a_bad_frame_is_refused_in_its_place_and_the_connection_stays() {
    let (mut client, script, _server) = logged_in().await;
    let release = script.hold("slow");
    client.say(&ask("slow")).await;
    client.say("NONSENSE;A=:1").await;
    client.say("ACK;CLIENT_ID=:c-1;EVENT_IDEM=:e-1").await;
    client.say("CONTINUE;CLIENT_ID=:somebody-else;EVENT_NAME=:a").await;
    client.say("CONN;ACCESS_KEY=:good").await;
    client.say("PONG").await;
    client.say(&ask("b")).await;
    release.send(()).unwrap();
    assert_eq!(client.hear().await, "+PASS:slow");
    assert!(
        client
            .hear()
            .await
            .starts_with("-FAIL:protocol: byte 0 should be a verb, in capitals, but a word stands there")
    );
    assert_eq!(client.hear().await, "-FAIL:protocol: ACK: the key BLOCK is missing");
    assert!(client.hear().await.starts_with("-FAIL:unauthenticated: CLIENT_ID is not"));
    assert!(client.hear().await.starts_with("-FAIL:invalid_input: CONN: this connection is logged in already"));
    assert_eq!(client.hear().await, "+PASS:b");
    assert_eq!(script.done(), ["slow", "b"]);
}

#[tokio::test]
async fn no_more_requests_run_than_the_limit() {
    let options = ServerOptions { max_in_flight: 2, ..ServerOptions::default() };
    let (mut client, script, _server) = start(options).await;
    client.log_in().await;
    let releases = ["1", "2", "3", "4"].map(|name| script.hold(name));
    for name in ["1", "2", "3", "4"] {
        client.say(&ask(name)).await;
    }
    // An event is pushed once the first two were started; the third was not.
    script.push(delivery("e-1"));
    client.hear().await;
    assert_eq!(script.held.lock().unwrap().len(), 2);
    for (release, name) in releases.into_iter().zip(["1", "2", "3", "4"]) {
        release.send(()).unwrap();
        assert_eq!(client.hear().await, format!("+PASS:{name}"));
    }
}

#[tokio::test]
async fn no_more_bytes_are_under_way_than_the_limit() {
    let options = ServerOptions { max_frame_bytes: 1000, ..ServerOptions::default() };
    let (mut client, script, _server) = start(options).await;
    client.log_in().await;
    let pause = |name: &str| format!("PAUSE;CLIENT_ID=:c-1;EVENT_NAME=:{name};REASON=:{}", "x".repeat(500));
    let releases = ["1", "2", "3", "4"].map(|name| script.hold(name));
    for name in ["1", "2", "3", "4"] {
        client.say(&pause(name)).await;
    }
    script.push(delivery("e-1"));
    client.hear().await;
    assert_eq!(script.held.lock().unwrap().len(), 2);
    for (release, name) in releases.into_iter().zip(["1", "2", "3", "4"]) {
        release.send(()).unwrap();
        assert_eq!(client.hear().await, format!("+PASS:{name}"));
    }
}

#[tokio::test]
async fn who_does_not_read_makes_nobody_buffer() {
    let (mut client, script, _server) = logged_in().await;
    // Far more than the stream and the write buffer hold together.
    let fat = Delivery { payload: WirePayload::from_wire("A".repeat(64 * 1024)), ..delivery("e") };
    for _ in 0..100 {
        script.push(fat.clone());
    }
    client.say(&ask("last")).await;
    tokio::task::yield_now().await;
    let mut records = 0;
    let answer = loop {
        let heard = client.hear().await;
        if !heard.starts_with("+RECORD:") {
            break heard;
        }
        records += 1;
    };
    assert_eq!(answer, "+PASS:last");
    // What comes after the answer had waited in the inbox, not in a buffer.
    assert!(records < 100, "{records} records were written before anybody read");
    for _ in records..100 {
        assert!(client.hear().await.starts_with("+RECORD:"));
    }
}
