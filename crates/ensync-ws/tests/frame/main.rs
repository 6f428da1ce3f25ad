//! The text grammar: what the peers send is read, what we write is read back, and nothing that a stranger sends does harm.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test's helper is a failed test, too"
)]

mod properties;
mod refusals;

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use ensync_core::{
    AppId, AppKey, Block, ClientId, Command, Delay, Delivery, Error, ErrorKind, EventId, EventName, FieldType,
    IdempotencyKey, Metadata, PayloadMetadata, Publish, Reply, SecretKey, Settle, Settlement, Subscribe, Timestamp,
    WirePayload,
};
use ensync_ws::frame::{
    Answer, Dialect, Expect, Pushed, Request, parse_record, write_answer, write_login, write_record, write_request,
};

const KEY: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

fn name(text: &str) -> EventName {
    EventName::parse(text).unwrap()
}

fn settle(event: Option<&str>, block: Option<u64>, how: Settlement) -> Command {
    Command::Settle(Settle {
        id: EventId::parse("e-1").unwrap(),
        event: event.map(name),
        block: block.map(|block| Block::new(block).unwrap()),
        how,
    })
}

fn publish(metadata: &str) -> Publish {
    Publish {
        event: name("orders/new"),
        recipient: AppId::parse(KEY).unwrap(),
        payload: WirePayload::from_wire("e30="),
        metadata: Metadata::parse(metadata).unwrap(),
        payload_metadata: None,
        idempotency_key: None,
    }
}

/// Each verb as the published clients send it, and as we write it to an engine without extensions.
fn official() -> Vec<(String, Command)> {
    let discard = |reason: &str| Settlement::Discard { reason: reason.into() };
    let defer = Settlement::Defer { delay: Delay::from_millis(1500).unwrap(), priority: 0, reason: "later".into() };
    let shape = PayloadMetadata {
        byte_size: 9,
        skeleton: Some([("a".to_owned(), FieldType::Integer)].into()),
        field_count: Some(1),
        unread: false,
    };
    let with_shape = Publish { payload_metadata: Some(shape), ..publish(r#"{"headers":{"a":"}"},"persist":true}"#) };
    vec![
        (
            format!(
                r#"PUB;CLIENT_ID=:c-1;EVENT_NAME=:orders/new;PAYLOAD=:e30=;DELIVERY_TO=:{KEY};METADATA=:{{"headers":{{}}}}"#
            ),
            Command::Publish(publish(r#"{"headers":{}}"#)),
        ),
        (
            format!(
                r#"PUB;CLIENT_ID=:c-1;EVENT_NAME=:orders/new;PAYLOAD=:e30=;DELIVERY_TO=:{KEY};METADATA=:{{"headers":{{"a":"}}"}},"persist":true}};PAYLOAD_METADATA=:{{"byte_size":9,"skeleton":{{"a":"integer"}},"field_count":1}}"#
            ),
            Command::Publish(with_shape),
        ),
        (
            "SUB;CLIENT_ID=:c-1;EVENT_NAME=:orders/new".into(),
            Command::Subscribe(Subscribe { event: name("orders/new"), max_in_flight: None, max_bytes_in_flight: None }),
        ),
        ("UNSUB;CLIENT_ID=:c-1;EVENT_NAME=:orders/new".into(), Command::Unsubscribe { event: name("orders/new") }),
        (
            "ACK;CLIENT_ID=:c-1;EVENT_IDEM=:e-1;BLOCK=:456;EVENT_NAME=:orders/new".into(),
            settle(Some("orders/new"), Some(456), Settlement::Ack),
        ),
        ("ACK;CLIENT_ID=:c-1;EVENT_IDEM=:e-1;BLOCK=:456".into(), settle(None, Some(456), Settlement::Ack)),
        ("ROLLBACK;CLIENT_ID=:c-1;EVENT_IDEM=:e-1;BLOCK=:456".into(), settle(None, Some(456), Settlement::Rollback)),
        (
            "DISCARD;CLIENT_ID=:c-1;EVENT_IDEM=:e-1;EVENT_NAME=:orders/new;REASON=:not, mine".into(),
            settle(Some("orders/new"), None, discard("not, mine")),
        ),
        (
            "DEFER;CLIENT_ID=:c-1;EVENT_IDEM=:e-1;EVENT_NAME=:orders/new;DELAY=:1500;REASON=:later".into(),
            settle(Some("orders/new"), None, defer),
        ),
        (
            "PAUSE;CLIENT_ID=:c-1;EVENT_NAME=:orders/new;REASON=:".into(),
            Command::Pause { event: name("orders/new"), reason: String::new() },
        ),
        ("CONTINUE;CLIENT_ID=:c-1;EVENT_NAME=:orders/new".into(), Command::Continue { event: name("orders/new") }),
        (
            "REPLAY;CLIENT_ID=:c-1;EVENT_IDEM=:e-1;EVENT_NAME=:orders/new".into(),
            Command::Replay { id: EventId::parse("e-1").unwrap(), event: name("orders/new") },
        ),
    ]
}

fn client_id() -> ClientId {
    ClientId::parse("c-1").unwrap()
}

fn command(frame: &str) -> Command {
    match Request::parse(frame).unwrap() {
        Request::Command { client_id: id, command } if id == client_id() => command,
        other => panic!("{frame}: {other:?}"),
    }
}

#[test]
fn every_verb_is_read_and_written_as_the_peers_send_it() {
    for (frame, expected) in official() {
        assert_eq!(command(&frame), expected, "{frame}");
        assert_eq!(write_request(&client_id(), &expected, Dialect::default()).unwrap(), frame);
    }
    let key = AppKey::parse("key=:with=equals,and{braces}").unwrap();
    assert_eq!(write_login(&key), "CONN;ACCESS_KEY=:key=:with=equals,and{braces}");
    assert_eq!(Request::parse(&write_login(&key)).unwrap(), Request::Login(key));
    assert_eq!(Request::parse("PING").unwrap(), Request::Ping);
    assert_eq!(Request::parse("PONG").unwrap(), Request::Pong);
}

#[test]
fn quirks_of_the_peers_are_taken() {
    let ack = settle(None, Some(4), Settlement::Ack);
    for frame in [
        "ACK;CLIENT_ID=:c-1;EVENT_IDEM=:e-1;BLOCK=:4;EVENT_NAME=:undefined",
        "ACK;CLIENT_ID=:c-1;EVENT_IDEM=:e-1;BLOCK=:4;EVENT_NAME=:",
        "ACK;BLOCK=:4;NEW_KEY=:what;EVENT_IDEM=:e-1;CLIENT_ID=:c-1;",
    ] {
        assert_eq!(command(frame), ack, "{frame}");
    }
    let frame = format!(
        "PUB;METADATA=: {{ \"a\" : \"; }} ;EVENT_NAME=:x\" }} ;PAYLOAD_METADATA=:undefined;DELIVERY_TO=:{KEY};PAYLOAD=:e30=;EVENT_NAME=:orders/new;CLIENT_ID=:c-1"
    );
    let Command::Publish(read) = command(&frame) else { panic!("{frame}") };
    assert_eq!(read.metadata.field("a").unwrap(), "; } ;EVENT_NAME=:x");
    assert_eq!((read.event.as_str(), read.payload_metadata), ("orders/new", None));
    let frame = format!("PUB;CLIENT_ID=:c-1;EVENT_NAME=:orders/new;PAYLOAD=:e30=;DELIVERY_TO=:{KEY};METADATA=:");
    assert_eq!(command(&frame), Command::Publish(publish("{}")));
}

#[test]
fn extensions_go_only_to_engines_that_announced_them() {
    let retried =
        Publish { idempotency_key: Some(IdempotencyKey::parse("k-1").unwrap()), ..publish(r#"{"headers":{}}"#) };
    let later = Settlement::Defer { delay: Delay::NONE, priority: 0, reason: "r".into() };
    let window = Subscribe { event: name("a"), max_in_flight: NonZeroU32::new(8), max_bytes_in_flight: None };
    let bytes = Subscribe { event: name("a"), max_in_flight: None, max_bytes_in_flight: NonZeroU64::new(9_000) };
    for (command_, part) in [
        (Command::Publish(retried), ";IDEMPOTENCY_KEY=:k-1"),
        (Command::Subscribe(window), ";MAX_IN_FLIGHT=:8"),
        (Command::Subscribe(bytes), ";MAX_BYTES_IN_FLIGHT=:9000"),
        (settle(Some("a"), Some(9), later), ";BLOCK=:9"),
        (settle(None, Some(9), Settlement::Discard { reason: "a;b\nc".into() }), ";BLOCK=:9"),
    ] {
        let plain = write_request(&client_id(), &command_, Dialect::default()).unwrap();
        assert!(!plain.contains(part), "{plain}");
        let extended = write_request(&client_id(), &command_, Dialect::EXTENDED).unwrap();
        assert!(extended.contains(part), "{extended}");
        assert_eq!(command(&extended), command_);
    }
    for (how, verb) in [(Settlement::Extend, "EXTEND"), (Settlement::Release, "RELEASE")] {
        let command_ = settle(None, Some(9), how);
        let error = write_request(&client_id(), &command_, Dialect::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let extended = write_request(&client_id(), &command_, Dialect::EXTENDED).unwrap();
        assert_eq!(extended, format!("{verb};CLIENT_ID=:c-1;EVENT_IDEM=:e-1;BLOCK=:9"));
        assert_eq!(command(&extended), command_);
    }
}

/// What a published client writes for nothing is a text like any other where only clients that know better write.
#[test]
fn odd_words_come_out_as_they_went_in() {
    for word in ["null", "undefined", "0", "true", "false", "\"", "''", "NaN", "=:", "-", "None"] {
        let key = Some(IdempotencyKey::parse(word).unwrap());
        let reason = word.to_owned();
        for command_ in [
            Command::Publish(Publish { idempotency_key: key, ..publish("{}") }),
            settle(Some("a"), Some(9), Settlement::Discard { reason: reason.clone() }),
            settle(Some("a"), Some(9), Settlement::Defer { delay: Delay::NONE, priority: 0, reason: reason.clone() }),
            Command::Pause { event: name("a"), reason },
            Command::Replay { id: word.parse().unwrap(), event: name("a") },
            Command::Unsubscribe { event: "null".parse().unwrap() },
        ] {
            let frame = write_request(&client_id(), &command_, Dialect::EXTENDED).unwrap();
            assert_eq!(command(&frame), command_, "{frame}");
        }
    }
    for frame in [
        "SUB;CLIENT_ID=:c-1;EVENT_NAME=:a;MAX_IN_FLIGHT=:null",
        "SUB;CLIENT_ID=:c-1;EVENT_NAME=:a;MAX_BYTES_IN_FLIGHT=:",
    ] {
        assert!(Request::parse(frame).is_err(), "{frame}");
    }
}

#[test]
fn a_reason_cannot_become_a_key() {
    let hostile = "other;EVENT_IDEM=:x;BLOCK=:1\n;REASON=:y";
    let discard = settle(Some("a"), Some(9), Settlement::Discard { reason: hostile.into() });
    let frame = write_request(&client_id(), &discard, Dialect::EXTENDED).unwrap();
    assert_eq!(command(&frame), discard);
    // An engine that announced nothing may split at every semicolon.
    let frame = write_request(&client_id(), &discard, Dialect::default()).unwrap();
    let keys: Vec<_> = frame.split(';').skip(1).filter_map(|part| part.split_once("=:")).map(|(key, _)| key).collect();
    assert_eq!(keys, ["CLIENT_ID", "EVENT_IDEM", "EVENT_NAME", "REASON"]);
}

#[test]
fn metadata_cannot_become_a_key() {
    let hostile = r#"{"headers":{"a":"};DELIVERY_TO=:x;","b;c":["\\",";"]}}"#;
    let command_ = Command::Publish(publish(hostile));
    let frame = write_request(&client_id(), &command_, Dialect::default()).unwrap();
    let keys: Vec<_> = frame.split(';').skip(1).filter_map(|part| part.split_once("=:")).map(|(key, _)| key).collect();
    assert_eq!(keys, ["CLIENT_ID", "EVENT_NAME", "PAYLOAD", "DELIVERY_TO", "METADATA"]);
    let Command::Publish(read) = command(&frame) else { panic!("{frame}") };
    assert_eq!(read.metadata.fields(), Metadata::parse(hostile).unwrap().fields());
}

#[test]
fn metadata_goes_as_it_is_to_who_reads_it_whole() {
    let text = r#"{"headers":{"a":"};DELIVERY_TO=:x;","b;c":["\\",";\u003b"]}}"#;
    let command_ = Command::Publish(publish(text));
    let frame = write_request(&client_id(), &command_, Dialect::EXTENDED).unwrap();
    let Command::Publish(read) = command(&frame) else { panic!("{frame}") };
    assert_eq!(read.metadata.as_str(), text);
    assert_eq!(Command::Publish(read), command_);
}

#[test]
fn answers_are_read_for_what_was_asked() {
    let read = |frame: &str, expect| Answer::parse(frame).unwrap().read(expect);
    assert_eq!(read("+PASS:subscribed to a", Expect::Done).unwrap(), Reply::Done);
    assert_eq!(
        read("+PASS: e-1 ", Expect::Published).unwrap(),
        Reply::Published { id: EventId::parse("e-1").unwrap() }
    );
    let until = Some(Timestamp::from_millis(5));
    assert_eq!(read("+PASS:deliveryTime=5", Expect::Deferred).unwrap(), Reply::Deferred { until });
    for other in ["+PASS:", "+PASS:deferred", "+PASS:deliveryTime=soon"] {
        assert_eq!(read(other, Expect::Deferred).unwrap(), Reply::Deferred { until: None });
    }
    let record = r#"{"name":"a","idem":"x","block":1,"payload":"e30="}"#;
    for prefix in ["+REPLAY:", "+PASS:"] {
        let Reply::Replayed(delivery) = read(&format!("{prefix}{record}"), Expect::Replayed).unwrap() else { panic!() };
        assert_eq!(delivery.id.as_str(), "x");
    }
    for (frame, expect, part) in [
        ("+PASS:", Expect::Published, "holds no event id"),
        ("+PASS:no;id", Expect::Published, "holds no event id"),
        ("+PASS:ok", Expect::Replayed, "holds no event"),
        ("+REPLAY:{}", Expect::Replayed, "holds no event"),
        ("+REPLAY:{}", Expect::Done, "none was asked for"),
    ] {
        let error = read(frame, expect).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains(part), "{frame}: {error}");
    }
    assert!(!Answer::Replay("{}").fits(Expect::Published) && Answer::Fail("").fits(Expect::Published));
    for (frame, kind, words) in [
        ("-FAIL:unknown_event: no such event: a", ErrorKind::UnknownEvent, "no such event: a"),
        ("-FAIL:Event not found", ErrorKind::Refused, "Event not found"),
        ("-FAIL", ErrorKind::Refused, "the engine refused the command and gave no reason"),
    ] {
        let error = read(frame, Expect::Replayed).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, words));
    }
}

#[test]
fn answers_are_written_so_that_every_peer_reads_them() {
    for (result, expect) in [
        (Ok(Reply::Done), Expect::Done),
        (Ok(Reply::Published { id: EventId::parse("e-1").unwrap() }), Expect::Published),
        (Ok(Reply::Deferred { until: Some(Timestamp::from_millis(7)) }), Expect::Deferred),
        (Ok(Reply::Deferred { until: None }), Expect::Deferred),
        (Ok(Reply::Replayed(Box::new(record_of("a/b", "e-1", "{}")))), Expect::Replayed),
    ] {
        let frame = write_answer(&result);
        let answer = Answer::parse(&frame).unwrap();
        assert!(answer.fits(expect) && Pushed::parse(&frame).unwrap() == Pushed::Answer(answer));
        assert_eq!(answer.read(expect).unwrap(), result.unwrap());
    }
    let refusal = Error::new(ErrorKind::SchemaMismatch, "the field a; is\nwrong");
    let frame = write_answer(&Err(refusal));
    assert_eq!(frame, "-FAIL:schema_mismatch: the field a; is\nwrong");
    assert_eq!(Answer::parse(&frame).unwrap().read(Expect::Done).unwrap_err().kind(), ErrorKind::SchemaMismatch);
}

#[test]
fn pushed_frames_are_told_apart() {
    assert_eq!(Pushed::parse("PING\n").unwrap(), Pushed::Ping);
    assert_eq!(Pushed::parse("PONG").unwrap(), Pushed::Pong);
    assert_eq!(Pushed::parse("+RECORD:{}").unwrap(), Pushed::Record("{}"));
    for bad in ["", "PASS:x", "+PASS", "+record:{}", "SUB;A=:1", "-FAILED:x", "\u{1F980}\u{1F980}\u{1F980}"] {
        assert_eq!(Pushed::parse(bad).unwrap_err().kind(), ErrorKind::Protocol, "{bad}");
    }
    // A frame that is not understood may hold a payload, which does not belong into an error.
    assert!(!Pushed::parse("+RECORDS:{\"payload\":\"hush\"}").unwrap_err().to_string().contains("hush"));
}

fn record_of(event: &str, id: &str, metadata: &str) -> Delivery {
    Delivery {
        event: name(event),
        id: EventId::parse(id).unwrap(),
        block: Block::new(1).unwrap(),
        payload: WirePayload::from_wire("e30="),
        metadata: Metadata::parse(metadata).unwrap(),
        sender: None,
        recipient: None,
        timestamp: None,
        attempt: None,
        lease: None,
    }
}
