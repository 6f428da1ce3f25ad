//! How a connection begins, lives and ends.

use super::*;

#[tokio::test]
async fn the_first_frame_must_be_a_login() {
    for (frame, answer) in [
        (ask("a").as_str(), "-FAIL:unauthenticated: the first frame must be a login: CONN;ACCESS_KEY=:…"),
        ("CONN;ACCESS_KEY=:bad", "-FAIL:unauthenticated: no such key"),
        (
            "CONN;ACCESS_KEY=:",
            "-FAIL:invalid_key: CONN ACCESS_KEY: the app key is empty; copy it from where the app was created",
        ),
        ("HELLO", "-FAIL:protocol: byte 0 should be a verb"),
    ] {
        let (mut client, script, server) = start(ServerOptions::default()).await;
        client.say("PING").await;
        assert_eq!(client.hear().await, "PONG");
        client.say("PONG").await;
        client.say(frame).await;
        let heard = client.hear().await;
        assert!(heard.starts_with(answer), "{heard}");
        assert_eq!(client.ends_with().await, (CloseCode::Policy, "login refused".to_owned()));
        drop(client);
        server.await.unwrap();
        assert!(script.done().is_empty());
    }
}

#[tokio::test]
async fn an_engine_that_cannot_say_welcome_logs_out_again() {
    let (mut client, script, server) = start(ServerOptions::default()).await;
    client.say("CONN;ACCESS_KEY=:misconfigured").await;
    assert_eq!(client.hear().await, "-FAIL:internal: the engine cannot answer the login");
    assert_eq!(client.ends_with().await.0, CloseCode::Error);
    drop(client);
    server.await.unwrap();
    assert_eq!(script.done(), ["logout"]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_log_in_is_sent_away() {
    let (mut client, script, _server) = start(ServerOptions::default()).await;
    assert_eq!(client.ends_with().await, (CloseCode::Policy, "no login in time".to_owned()));
    assert!(script.done().is_empty());
}

#[tokio::test]
async fn who_is_not_logged_in_when_the_engine_stops_is_told() {
    let options = ServerOptions::default();
    let (mut client, script, server) = start(options.clone()).await;
    client.say("PING").await;
    assert_eq!(client.hear().await, "PONG");
    options.stop.cancel();
    assert_eq!(client.ends_with().await, (CloseCode::Away, "the engine stops".to_owned()));
    drop(client);
    server.await.unwrap();
    assert!(script.done().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_stays_and_one_that_does_not_goes() {
    let (mut client, script, server) = logged_in().await;
    let logout = script.on_logout();
    for _ in 0..10 {
        // Reading the next message is what sends the pong of the last.
        assert!(matches!(client.next().await.unwrap(), Message::Ping(_)));
    }
    client.say(&ask("still-here")).await;
    assert_eq!(client.hear().await, "+PASS:still-here");
    // From here on nothing is read, hence nothing answered.
    timeout(Duration::from_secs(600), logout).await.unwrap().unwrap();
    server.await.unwrap();
    let mut unread = Vec::new();
    client.socket.get_mut().read_to_end(&mut unread).await.unwrap();
    // Pings, and a close frame with the code 1008.
    assert!(unread.ends_with(b"\x88\x11\x03\xf0no sign of life"), "{unread:?}");
}

#[tokio::test(start_paused = true)]
async fn a_ping_interval_may_be_nothing_or_endless() {
    for ping_interval in [Duration::ZERO, Duration::MAX] {
        let (mut client, _, _server) = start(ServerOptions { ping_interval, ..ServerOptions::default() }).await;
        client.log_in().await;
        // Paused time runs to the next timer, were it in a year.
        for _ in 0..3 {
            let ping = timeout(Duration::from_secs(400 * 24 * 60 * 60), client.socket.next()).await.unwrap();
            assert!(matches!(ping, Some(Ok(Message::Ping(_)))), "{ping_interval:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_service_is_not_taken_for_a_dead_client() {
    let options = ServerOptions { max_in_flight: 1, ..ServerOptions::default() };
    let (mut client, script, _server) = start(options).await;
    client.log_in().await;
    let release = script.hold("slow");
    client.say(&ask("slow")).await;
    for _ in 0..10 {
        assert!(matches!(client.next().await.unwrap(), Message::Ping(_)));
    }
    release.send(()).unwrap();
    assert_eq!(client.hear().await, "+PASS:slow");
}

#[tokio::test]
async fn what_cannot_be_a_frame_closes_with_its_code() {
    let options = ServerOptions { max_frame_bytes: 1000, ..ServerOptions::default() };
    for (frame, code) in
        [(Message::binary(vec![1, 2, 3]), CloseCode::Unsupported), (Message::text("x".repeat(1001)), CloseCode::Size)]
    {
        // The same before and after the login.
        let (mut client, _, _server) = start(options.clone()).await;
        client.socket.send(frame.clone()).await.unwrap();
        assert_eq!(client.ends_with().await.0, code);
        let (mut client, script, server) = start(options.clone()).await;
        client.log_in().await;
        client.socket.send(frame).await.unwrap();
        assert_eq!(client.ends_with().await.0, code);
        drop(client);
        server.await.unwrap();
        assert_eq!(script.done(), ["logout"]);
    }
    for (wire, code) in [
        // A masked text frame (mask zero) of one byte that is not UTF-8, and a frame without a mask.
        (vec![0x81, 0x81, 0, 0, 0, 0, 0xff], CloseCode::Invalid),
        (vec![0x81, 0x01, b'x'], CloseCode::Protocol),
        (vec![0xff, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
    ] {
        let (mut client, _, _server) = logged_in().await;
        client.socket.get_mut().write_all(&wire).await.unwrap();
        assert_eq!(client.ends_with().await.0, code, "{wire:?}");
    }
}

#[tokio::test]
async fn before_the_login_frames_are_short_and_few() {
    let (mut client, script, server) = start(ServerOptions::default()).await;
    // Only the header of a masked text frame of 16 MiB: nobody waits for the rest, nor keeps room for it.
    let header = [&[0x81, 0xff][..], &(16_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    client.socket.get_mut().write_all(&header).await.unwrap();
    assert_eq!(client.ends_with().await, (CloseCode::Size, "too much before the login".to_owned()));
    drop(client);
    server.await.unwrap();
    let (mut client, _, server) = start(ServerOptions::default()).await;
    for _ in 0..20 {
        client.say(&format!("PONG{}", " ".repeat(4_000))).await;
    }
    while client.socket.next().await.is_some() {}
    drop(client);
    server.await.unwrap();
    assert!(script.done().is_empty());
    // A login may come with whatever is short.
    let (mut client, _, _server) = start(ServerOptions::default()).await;
    client.say("PONG").await;
    client.log_in().await;
    client.say(&format!("PAUSE;CLIENT_ID=:c-1;EVENT_NAME=:a;REASON=:{}", "x".repeat(100_000))).await;
    assert_eq!(client.hear().await, "+PASS:a");
}

#[tokio::test]
async fn a_frame_acts_under_its_own_connections_login_only() {
    let (mut client, script, server) = logged_in().await;
    for id in ["c-2", "C-1", "c-1 "] {
        client.say(&format!("CONTINUE;CLIENT_ID=:{id};EVENT_NAME=:a")).await;
        let heard = client.hear().await;
        assert!(heard.starts_with("-FAIL:unauthenticated") || heard.starts_with("-FAIL:invalid_input"), "{heard}");
    }
    client.say(&ask("mine")).await;
    assert_eq!(client.hear().await, "+PASS:mine");
    drop(client);
    server.await.unwrap();
    assert_eq!(script.done(), ["mine", "logout"]);
}

#[tokio::test]
async fn a_session_that_ends_is_answered_and_closed() {
    let (mut client, script, server) = logged_in().await;
    let release = script.hold("slow");
    client.say(&ask("slow")).await;
    client.say(&ask("quick")).await;
    script.push(delivery("e-1"));
    client.hear().await;
    script.inbox.lock().unwrap().take();
    release.send(()).unwrap();
    assert_eq!(client.hear().await, "+PASS:slow");
    assert_eq!(client.hear().await, "+PASS:quick");
    assert_eq!(client.ends_with().await, (CloseCode::Away, "the engine ended the session".to_owned()));
    drop(client);
    server.await.unwrap();
    assert_eq!(script.done(), ["quick", "slow", "logout"]);
}

#[tokio::test]
async fn what_arrived_before_the_goodbye_is_carried_out() {
    let (mut client, script, server) = logged_in().await;
    let release = script.hold("slow");
    client.say(&ask("slow")).await;
    client.say(&ask("quick")).await;
    client.socket.close(None).await.unwrap();
    // The goodbye is returned at once, whatever still runs.
    assert!(matches!(client.next().await, Some(Message::Close(_))));
    assert!(client.next().await.is_none());
    release.send(()).unwrap();
    drop(client);
    server.await.unwrap();
    assert_eq!(script.done(), ["quick", "slow", "logout"]);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_never_ends_does_not_keep_a_session() {
    let (mut client, script, server) = logged_in().await;
    let _release = script.hold("stuck");
    client.say(&ask("stuck")).await;
    drop(client);
    server.await.unwrap();
    assert_eq!(script.done(), ["logout"]);
}

#[tokio::test]
async fn a_dropped_connection_is_logged_out_too() {
    let (_client, script, server) = logged_in().await;
    let logout = script.on_logout();
    server.abort();
    logout.await.unwrap();
    assert_eq!(script.done(), ["logout"]);
}
