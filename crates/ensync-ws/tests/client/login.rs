//! Connecting and logging in.

use super::*;

/// What a refused connection says.
async fn refused(endpoint: &Endpoint) -> Error {
    WsConnector::new(Dialer::default()).connect(endpoint, &key()).await.unwrap_err()
}

#[tokio::test]
async fn the_login_is_read() {
    let (link, _engine) = linked().await;
    assert_eq!(link.welcome.client_id.expose(), "c-1");
    assert_eq!(link.welcome.app_id.unwrap().to_string(), KEY);
    assert_eq!(link.welcome.config.value("note"), Some("x"));
}

#[tokio::test]
async fn a_refused_login_keeps_its_words() {
    for (answer, kind, words) in [
        ("-FAIL:unauthenticated: no such key", ErrorKind::Unauthenticated, "no such key"),
        ("-FAIL:Invalid access key", ErrorKind::Unauthenticated, "Invalid access key"),
        ("-FAIL:", ErrorKind::Unauthenticated, "gave no reason"),
        ("-FAIL:Service restarting, try again", ErrorKind::Unavailable, "Service restarting, try again"),
        ("-FAIL:Temporarily Unavailable", ErrorKind::Unavailable, "Temporarily Unavailable"),
        ("-FAIL:Connection limit reached", ErrorKind::LimitExceeded, "Connection limit reached"),
        ("-FAIL:unavailable: the engine is stopping", ErrorKind::Unavailable, "the engine is stopping"),
        ("-FAIL:limit_exceeded: too many sessions", ErrorKind::LimitExceeded, "too many sessions"),
        ("+PASS:welcome", ErrorKind::Protocol, "holds no clientId"),
        ("+RECORD:{}", ErrorKind::Protocol, "came an event"),
        ("hello", ErrorKind::Protocol, "neither an answer"),
    ] {
        let (listener, endpoint) = listen().await;
        let engine = async {
            let mut engine = accept(&listener).await;
            hear(&mut engine).await;
            // A text ping may come before the answer.
            say(&mut engine, "PING").await;
            assert_eq!(hear(&mut engine).await, "PONG");
            say(&mut engine, answer).await;
        };
        let (error, ()) = tokio::join!(refused(&endpoint), engine);
        assert_eq!(error.kind(), kind, "{answer}");
        assert!(error.to_string().contains(words) && error.to_string().contains("login at ws://"), "{error}");
        assert!(!format!("{error:?}").contains("key-1"));
    }
}

#[tokio::test]
async fn an_engine_that_hangs_up_at_login_is_no_connection() {
    let (listener, endpoint) = listen().await;
    let engine = async {
        let mut engine = accept(&listener).await;
        hear(&mut engine).await;
        engine.close(None).await.unwrap();
    };
    let (error, ()) = tokio::join!(refused(&endpoint), engine);
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("instead of answering"), "{error}");
}

#[tokio::test]
async fn what_is_no_websocket_is_told_apart() {
    for (answer, part) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope", "answers HTTP 404 Not Found"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "answers HTTP 200 OK"),
        ("\0\0\u{12}\u{4}\0\0\0\0\0", "does not speak WebSocket"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n", "does not speak WebSocket"),
        ("", "ended during the WebSocket handshake"),
    ] {
        let (listener, endpoint) = listen().await;
        let engine = async {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(tcp.read_u8().await.unwrap());
            }
            tcp.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let (error, request) = tokio::join!(refused(&endpoint), engine);
        assert!(request.starts_with("GET /message HTTP/1.1\r\n") && request.contains("ensync-rust/"), "{request}");
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(error.to_string().contains(part) && error.to_string().contains("WebSocket port"), "{error}");
    }
}

#[tokio::test]
async fn a_gateway_in_between_is_told_apart_and_outlasted() {
    let page = "content-type: text/html; charset=utf-8\r\n";
    for (status, headers, kind) in [
        ("401 Unauthorized", "", ErrorKind::Unavailable),
        ("407 Proxy Authentication Required", "", ErrorKind::Unavailable),
        ("403 Forbidden", page, ErrorKind::Unavailable),
        ("429 Too Many Requests", "", ErrorKind::LimitExceeded),
        ("500 Internal Server Error", "", ErrorKind::Unavailable),
        ("502 Bad Gateway", page, ErrorKind::Unavailable),
        ("503 Service Unavailable", "retry-after: 1\r\n", ErrorKind::Unavailable),
        ("504 Gateway Timeout", "", ErrorKind::Unavailable),
        ("200 OK", page, ErrorKind::Unavailable),
        ("404 Not Found", page, ErrorKind::Connect),
        ("301 Moved Permanently", "location: https://elsewhere/\r\n", ErrorKind::Connect),
    ] {
        let (listener, endpoint) = listen().await;
        let gateway = async {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(tcp.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: 6\r\n\r\n<html>");
            tcp.write_all(answer.as_bytes()).await.unwrap();
        };
        let (error, ()) = tokio::join!(refused(&endpoint), gateway);
        assert_eq!((error.kind(), error.is_said_on_the_way()), (kind, true), "{error}");
        assert!(error.to_string().contains(&format!("answers HTTP {status}")), "{error}");
    }
}

#[test]
fn only_websocket_addresses_are_taken() {
    let error = Ws::connector(&"grpcs://node".parse().unwrap(), Dialer::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidUrl);
    assert!(error.to_string().contains("ensync-grpc"), "{error}");
    Ws::connector(&"wss://node".parse().unwrap(), Dialer::default()).unwrap();
}
