//! What is refused, on either side, and what of it is told.

use super::*;

/// A frame out of order may have a key, or the id of a session, anywhere.
#[test]
fn no_refusal_of_a_frame_repeats_what_it_holds() {
    let secret = SecretKey::from_seed([0x5a; 32]).to_base64().unwrap();
    let mut refused = 0;
    for key in ["ensync_key_0123456789abcdefABCDEF", secret.as_str(), "c5e8a4d0f1b24c6f9e7d3a2b1c0d9e8f"] {
        for frame in [
            key.to_owned(),
            format!("CONN;{key}"),
            format!("CONN {key}"),
            format!("CONN;ACCESS_KEY={key}"),
            format!("CONN;ACCESS_KEY:{key}"),
            format!("CONN;ACCESS_KEY=: {key} x"),
            format!("SUB;{key}=:x"),
            format!("SUB;{key};EVENT_NAME=:a/b"),
            format!("SUB;CLIENT_ID={key};EVENT_NAME=:a/b"),
            format!("SUB;CLIENT_ID=:c;EVENT_NAME=:a/b;MAX_IN_FLIGHT=:{key}"),
            format!("DEFER;CLIENT_ID=:c;EVENT_IDEM=:x;EVENT_NAME=:a;DELAY=:{key}"),
            format!("ACK;CLIENT_ID=:c;EVENT_IDEM=:x;BLOCK=:{key}"),
            format!("PUB;CLIENT_ID=:c;METADATA=:{{}}{key}"),
            format!("PUB;CLIENT_ID=:c;METADATA=:{{\"a\":{key}}}"),
            format!("PUB;CLIENT_ID=:c;EVENT_NAME=:a/b;PAYLOAD=:e30=;DELIVERY_TO=:{key};METADATA=:{{}}"),
        ] {
            let read = [Request::parse(&frame).err(), Pushed::parse(&frame).err()];
            for error in read.into_iter().flatten() {
                refused += 1;
                let told = ensync_core::report(&error);
                let shown = key.as_bytes().windows(9).find(|part| told.contains(std::str::from_utf8(part).unwrap()));
                assert!(shown.is_none(), "{frame} -> {told}");
            }
        }
    }
    assert!(refused > 80, "{refused}");
    // Names of keys are letters, and so may be what is no name.
    let error = Request::parse("SUB;SECRETWORDS=:1;SECRETWORDS=:2").unwrap_err().to_string();
    assert!(error.contains("twice") && !error.contains("SECRET"), "{error}");
}

#[test]
fn what_a_frame_cannot_carry_is_not_written() {
    let with = |payload: &[u8]| {
        Command::Publish(Publish { payload: WirePayload::from_wire(payload.to_vec()), ..publish("{}") })
    };
    // What is no text at all would go out empty.
    for payload in [&b"e30=;DELIVERY_TO=:x"[..], b"e30\xff", b"\xc3", b""] {
        let error = write_request(&client_id(), &with(payload), Dialect::EXTENDED).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedEnvelope);
        assert!(error.to_string().contains("the sealed payload is not base64"), "{error}");
    }
    for (command, part) in [
        (settle(None, None, Settlement::Ack), "over WebSocket: the delivery's block is missing"),
        (settle(None, None, Settlement::Rollback), "over WebSocket: the delivery's block"),
        (settle(None, None, Settlement::Extend), "over WebSocket: the delivery's block"),
        (settle(None, None, Settlement::Release), "over WebSocket: the delivery's block"),
        (Command::Heartbeat, "protocol-level pings"),
    ] {
        let error = write_request(&client_id(), &command, Dialect::EXTENDED).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_bad_frame_is_refused_with_its_verb_and_key() {
    let publish = |payload: &str, to: &str, more: &str| {
        format!("PUB;CLIENT_ID=:c;EVENT_NAME=:a;PAYLOAD=:{payload};DELIVERY_TO=:{to}{more}")
    };
    let deep = format!(";METADATA=:{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    for (frame, kind, part) in [
        (
            "".into(),
            ErrorKind::Protocol,
            "byte 0 should be a verb, in capitals, but nothing stands there; there are CONN, PUB",
        ),
        (
            "sub;CLIENT_ID=:c;EVENT_NAME=:a".into(),
            ErrorKind::Protocol,
            "byte 0 should be a verb, in capitals, but a word stands there",
        ),
        ("CONN".into(), ErrorKind::Protocol, "CONN: the key ACCESS_KEY is missing"),
        ("CONN;ACCESS_KEY=:".into(), ErrorKind::InvalidKey, "CONN ACCESS_KEY: the app key is empty"),
        ("SUB;EVENT_NAME=:a".into(), ErrorKind::Protocol, "SUB: the key CLIENT_ID is missing"),
        ("SUB;CLIENT_ID=:c,d;EVENT_NAME=:a".into(), ErrorKind::InvalidInput, "SUB CLIENT_ID: "),
        ("SUB;CLIENT_ID=:c".into(), ErrorKind::Protocol, "SUB: the key EVENT_NAME is missing"),
        ("SUB;CLIENT_ID=:c;EVENT_NAME=:a b".into(), ErrorKind::InvalidEventName, "SUB EVENT_NAME: "),
        (
            "SUB;CLIENT_ID=:c;EVENT_NAME=:a;MAX_IN_FLIGHT=:0".into(),
            ErrorKind::InvalidInput,
            "SUB MAX_IN_FLIGHT: not a whole number",
        ),
        ("ACK;CLIENT_ID=:c;EVENT_IDEM=:e".into(), ErrorKind::Protocol, "ACK: the key BLOCK is missing"),
        ("ACK;CLIENT_ID=:c;EVENT_IDEM=:e;BLOCK=:-1".into(), ErrorKind::InvalidInput, "ACK BLOCK: "),
        ("ACK;CLIENT_ID=:c;BLOCK=:1".into(), ErrorKind::Protocol, "ACK: the key EVENT_IDEM is missing"),
        ("ROLLBACK;CLIENT_ID=:c;EVENT_IDEM=:e".into(), ErrorKind::Protocol, "ROLLBACK: the key BLOCK is missing"),
        (
            "ROLLBACK;CLIENT_ID=:c;EVENT_IDEM=:e;PARTITION_BLOCK=:x".into(),
            ErrorKind::InvalidInput,
            "ROLLBACK PARTITION_BLOCK: ",
        ),
        ("EXTEND;CLIENT_ID=:c;EVENT_IDEM=:e".into(), ErrorKind::Protocol, "EXTEND: the key BLOCK is missing"),
        ("RELEASE;CLIENT_ID=:c;BLOCK=:1".into(), ErrorKind::Protocol, "RELEASE: the key EVENT_IDEM is missing"),
        (
            "SUB;CLIENT_ID=:c;EVENT_NAME=:a;MAX_BYTES_IN_FLIGHT=:-1".into(),
            ErrorKind::InvalidInput,
            "SUB MAX_BYTES_IN_FLIGHT: not a whole number that it can be: something else",
        ),
        ("DEFER;CLIENT_ID=:c;EVENT_IDEM=:e".into(), ErrorKind::Protocol, "DEFER: the key DELAY is missing"),
        (
            "DEFER;CLIENT_ID=:c;EVENT_IDEM=:e;DELAY=:soon".into(),
            ErrorKind::InvalidInput,
            "DEFER DELAY: not a whole number that it can be: a word",
        ),
        ("REPLAY;CLIENT_ID=:c;EVENT_IDEM=:e".into(), ErrorKind::Protocol, "REPLAY: the key EVENT_NAME is missing"),
        (publish("", KEY, ";METADATA=:{}"), ErrorKind::MalformedEnvelope, "PUB PAYLOAD: not base64"),
        (publish("a\"b", KEY, ";METADATA=:{}"), ErrorKind::MalformedEnvelope, "PUB PAYLOAD: not base64"),
        (publish("e30=", "me", ";METADATA=:{}"), ErrorKind::InvalidKey, "PUB DELIVERY_TO: "),
        (publish("e30=", KEY, ""), ErrorKind::Protocol, "PUB: the key METADATA is missing"),
        (publish("e30=", KEY, ";METADATA=:[1]"), ErrorKind::InvalidInput, "PUB METADATA: "),
        (
            "SUB;CLIENT_ID=:c;EVENT_NAME=:a;MAX_IN_FLIGHT=:4294967296".into(),
            ErrorKind::InvalidInput,
            "a number out of its range",
        ),
        (publish("e30=", KEY, &deep), ErrorKind::Protocol, "METADATA is not JSON: "),
        // White space, but none of JSON's.
        (
            publish("e30=", KEY, ";METADATA=:{}\u{c}"),
            ErrorKind::Protocol,
            "goes on after its JSON value with something",
        ),
        (
            publish("e30=", KEY, ";METADATA=:{};PAYLOAD_METADATA=:{\"byte_size\":-1}"),
            ErrorKind::InvalidInput,
            "PUB PAYLOAD_METADATA",
        ),
        (
            "DISCARD;CLIENT_ID=:c;EVENT_IDEM=:e;EVENT_IDEM=:f;REASON=:x".into(),
            ErrorKind::Protocol,
            "EVENT_IDEM is there twice",
        ),
    ] {
        let error = Request::parse(&frame).unwrap_err();
        assert_eq!(error.kind(), kind, "{frame}: {error}");
        assert!(error.to_string().contains(part), "{frame}: {error}");
    }
}
