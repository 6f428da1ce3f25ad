//! What counts as a sign of life, and what a client that reads nothing can cost.

use super::*;

#[tokio::test]
async fn pings_are_answered_though_all_the_work_is_under_way() {
    for more in [0, 5] {
        let options = ServerOptions { max_in_flight: 2, ..ServerOptions::default() };
        let (mut client, script, _server) = start(options).await;
        client.log_in().await;
        let releases: Vec<_> = (0..2 + more).map(|n| script.hold(&n.to_string())).collect();
        for n in 0..2 + more {
            client.say(&ask(&n.to_string())).await;
        }
        client.socket.send(Message::Ping("here".into())).await.unwrap();
        assert_eq!(client.next().await.unwrap(), Message::Pong("here".into()));
        client.say("PING").await;
        assert_eq!(client.hear().await, "PONG");
        assert_eq!(script.held.lock().unwrap().len(), more, "no more run than the limit");
        for (n, release) in releases.into_iter().enumerate() {
            release.send(()).unwrap();
            assert_eq!(client.hear().await, format!("+PASS:{n}"));
        }
    }
}

#[tokio::test]
async fn frames_that_waited_for_others_are_carried_out_after_the_goodbye() {
    let options = ServerOptions { max_in_flight: 1, ..ServerOptions::default() };
    let (mut client, script, server) = start(options).await;
    client.log_in().await;
    let release = script.hold("1");
    for name in ["1", "2", "3"] {
        client.say(&ask(name)).await;
    }
    client.socket.close(None).await.unwrap();
    assert!(matches!(client.next().await, Some(Message::Close(_))));
    release.send(()).unwrap();
    drop(client);
    server.await.unwrap();
    assert_eq!(script.done(), ["1", "2", "3", "logout"]);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_frame_is_a_sign_of_life() {
    let (mut client, script, server) = logged_in().await;
    // A masked text frame of 200 bytes, a byte every 20 s: for more than an hour no ping can be answered.
    let frame = [&[0x81, 0x80 | 126, 0, 200, 0, 0, 0, 0][..], &[b'x'; 200]].concat();
    for byte in frame {
        client.socket.get_mut().write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    assert!(!server.is_finished() && script.done().is_empty());
    while !matches!(client.next().await, Some(Message::Text(text)) if text.starts_with("-FAIL:protocol")) {}
}

#[tokio::test(start_paused = true)]
async fn taking_what_is_written_is_a_sign_of_life() {
    let (mut client, script, server) = logged_in().await;
    let fat = Delivery { payload: WirePayload::from_wire("A".repeat(1024 * 1024)), ..delivery("e") };
    script.push(fat);
    // The record goes through a slow network: pings stand behind it.
    let mut part = vec![0; 20 * 1024];
    for _ in 0..50 {
        client.socket.get_mut().read_exact(&mut part).await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    assert!(!server.is_finished() && script.done().is_empty());
    // Then nothing is taken any more.
    timeout(Duration::from_secs(600), server).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pings_and_reads_nothing_makes_nobody_buffer() {
    let (mut client, _, server) = logged_in().await;
    // A masked ping of 125 bytes; each makes a pong as long.
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let mut written = 0;
    while let Ok(done) = timeout(Duration::from_secs(1), client.socket.get_mut().write_all(&ping)).await {
        done.unwrap();
        written += ping.len();
        assert!(written < 8 * 1024 * 1024, "pongs gather without bound");
    }
    // Both directions of the stream, the buffers of the WebSocket, and the pongs that may wait.
    assert!(written < 512 * 1024, "{written}");
    timeout(Duration::from_secs(600), server).await.unwrap().unwrap();
}
