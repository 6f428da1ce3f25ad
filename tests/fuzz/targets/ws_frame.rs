use std::collections::BTreeMap;

use ensync_core::{ClientId, Command, Delivery, ErrorKind, EventId, EventName, Metadata, Reply, Settlement};
use ensync_ws::frame::{
    Answer, Dialect, Expect, Pushed, Request, parse_record, parse_welcome, write_answer, write_login, write_record,
    write_request, write_welcome,
};
use serde_json::Value;

use super::check_refusal;

/// Takes the input for a frame of either side, for an event's record, and for the answer to a login.
pub fn ws_frame(input: &[u8]) -> bool {
    // A frame of text that is not UTF-8 never comes so far.
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let taken = [check_request(text), check_pushed(text), check_record(text), check_welcome(text)];
    taken.contains(&true)
}

fn check_request(frame: &str) -> bool {
    match Request::parse(frame) {
        Ok(Request::Login(key)) => {
            assert_eq!(Request::parse(&write_login(&key)).unwrap(), Request::Login(key));
            true
        }
        Ok(Request::Command { client_id, command }) => {
            check_command(&client_id, &command);
            true
        }
        Ok(Request::Ping | Request::Pong) => true,
        Err(error) => {
            let of_values = [
                ErrorKind::InvalidEventName,
                ErrorKind::InvalidKey,
                ErrorKind::InvalidInput,
                ErrorKind::MalformedEnvelope,
            ];
            check_refusal(&error, &[&[ErrorKind::Protocol][..], &of_values].concat());
            false
        }
    }
}

/// What was read can be written, and is then read as it was.
fn check_command(client_id: &ClientId, command: &Command) {
    let read = |frame: &str| match Request::parse(frame).unwrap() {
        Request::Command { client_id: again, command } if again == *client_id => command,
        other => panic!("{frame}: {other:?}"),
    };
    let whole = write_request(client_id, command, Dialect::EXTENDED).unwrap();
    let again = read(&whole);
    assert_eq!(write_request(client_id, &again, Dialect::EXTENDED).unwrap(), whole);
    assert_same(&again, &without_nameless(command));

    // To an engine that knows no extension, and splits at every semicolon.
    let plain = match write_request(client_id, command, Dialect::default()) {
        Ok(plain) => plain,
        Err(error) => {
            assert!(is_lease(command), "{command:?}: {error}");
            return check_refusal(&error, &[ErrorKind::Unsupported]);
        }
    };
    assert_same(&read(&plain), &without_extensions(command));
    let mut keys = BTreeMap::new();
    for pair in plain.split(';').skip(1) {
        let (key, value) = pair.split_once("=:").unwrap_or_else(|| panic!("{pair:?} in {plain:?}"));
        assert!(OFFICIAL.contains(&key), "{key:?} in {plain:?}");
        assert!(keys.insert(key, value).is_none(), "{key} twice in {plain:?}");
    }
    assert_eq!(keys.get("CLIENT_ID"), Some(&client_id.expose()));
}

/// The keys of the official protocol.
const OFFICIAL: &[&str] = &[
    "CLIENT_ID",
    "EVENT_NAME",
    "EVENT_IDEM",
    "PAYLOAD",
    "DELIVERY_TO",
    "METADATA",
    "PAYLOAD_METADATA",
    "BLOCK",
    "DELAY",
    "REASON",
];

/// A command without what its frame has no key for.
fn without_nameless(command: &Command) -> Command {
    let mut command = command.clone();
    let lease = is_lease(&command);
    if let Command::Settle(settle) = &mut command
        && (lease || settle.how == Settlement::Rollback)
    {
        settle.event = None;
    }
    command
}

fn is_lease(command: &Command) -> bool {
    matches!(command, Command::Settle(settle) if matches!(settle.how, Settlement::Extend | Settlement::Release))
}

fn without_extensions(command: &Command) -> Command {
    let mut command = without_nameless(command);
    let plain = |reason: &mut String| *reason = reason.replace(';', ",");
    match &mut command {
        Command::Publish(publish) => publish.idempotency_key = None,
        Command::Subscribe(subscribe) => (subscribe.max_in_flight, subscribe.max_bytes_in_flight) = (None, None),
        Command::Pause { reason, .. } => plain(reason),
        Command::Settle(settle) => {
            if let Settlement::Defer { reason, .. } | Settlement::Discard { reason } = &mut settle.how {
                plain(reason);
                settle.block = None;
            }
        }
        _ => {}
    }
    command
}

/// Metadata may be spelt otherwise: that is how it holds a semicolon.
fn assert_same(left: &Command, right: &Command) {
    if let (Command::Publish(left), Command::Publish(right)) = (left, right) {
        assert_eq!(left.metadata.fields(), right.metadata.fields());
        let bare = |publish: &ensync_core::Publish| {
            let mut publish = publish.clone();
            publish.metadata = Metadata::default();
            publish
        };
        assert_eq!(bare(left), bare(right));
    } else {
        assert_eq!(left, right);
    }
}

fn check_pushed(frame: &str) -> bool {
    match Pushed::parse(frame) {
        Ok(Pushed::Record(json)) => check_record(json),
        Ok(Pushed::Answer(answer)) => {
            for expect in [Expect::Done, Expect::Published, Expect::Deferred, Expect::Extended, Expect::Replayed] {
                check_answer(answer, expect);
            }
            if let Answer::Pass(text) = answer {
                check_welcome(text);
            }
            true
        }
        Ok(Pushed::Ping | Pushed::Pong) => true,
        Err(error) => {
            check_refusal(&error, &[ErrorKind::Protocol]);
            false
        }
    }
}

fn check_answer(answer: Answer<'_>, expect: Expect) {
    assert_eq!(answer.fits(expect), expect == Expect::Replayed || !matches!(answer, Answer::Replay(_)));
    let read = answer.read(expect);
    match &read {
        Ok(reply) => assert_eq!(expects(reply), expect),
        Err(error) if !matches!(answer, Answer::Fail(_)) => check_refusal(error, &[ErrorKind::Protocol]),
        // A refusal is in the engine's words, as long as they are.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let written = write_answer(&read);
    let again = Answer::parse(&written).unwrap().read(expect);
    let told = |read: ensync_core::Result<Reply>| read.map_err(|error| (error.kind(), error.to_string()));
    assert_eq!(told(again), told(read), "{written}");
}

fn expects(reply: &Reply) -> Expect {
    match reply {
        Reply::Published { .. } => Expect::Published,
        Reply::Deferred { .. } => Expect::Deferred,
        Reply::Extended { .. } => Expect::Extended,
        Reply::Replayed(_) => Expect::Replayed,
        _ => Expect::Done,
    }
}

fn check_record(json: &str) -> bool {
    let delivery = match parse_record(json) {
        Ok(delivery) => delivery,
        Err(error) => {
            check_refusal(&error, &[ErrorKind::Protocol]);
            return false;
        }
    };
    let frame = write_record(&delivery);
    let Pushed::Record(again) = Pushed::parse(&frame).unwrap() else { panic!("no record: {frame}") };
    assert_eq!(parse_record(again).unwrap(), delivery);
    // The same as the answer to a replay over gRPC, where what was asked for is known, and the payload is what is wanted.
    let (name, id) = (EventName::parse("asked/for").unwrap(), EventId::parse("asked").unwrap());
    match Delivery::from_record(json, Some((&name, &id))) {
        Ok(replayed) => assert_eq!(replayed, delivery),
        Err(error) => assert!(delivery.payload.is_empty() && error.to_string().ends_with("payload is missing")),
    }
    // Other readers see in it what we see. Two names switch how serde_json reads on.
    if !json.contains("private")
        && let Ok(value) = serde_json::from_str(json)
    {
        check_fields(&delivery, &value);
    }
    let written: Value = serde_json::from_str(again).unwrap();
    check_fields(&delivery, &written);
    assert_eq!(written["idem"], written["id"]);
    true
}

fn check_fields(delivery: &Delivery, record: &Value) {
    let text = |names: &[&str]| names.iter().find_map(|name| record[name].as_str());
    let names = ["name", "eventName", "messageName", "message_name", "event_name"];
    assert_eq!(text(&names), Some(delivery.event.as_str()));
    assert_eq!(text(&["idem", "id", "message_idem", "event_idem"]), Some(delivery.id.as_str()));
    assert_eq!(text(&["payload"]).unwrap_or_default(), delivery.payload.as_str().unwrap_or_default());
    match &record["metadata"] {
        Value::Object(fields) => assert_eq!(*fields, delivery.metadata.fields()),
        Value::String(json) => {
            let readable = !json.trim().is_empty() && delivery.metadata.unreadable().is_none();
            assert_eq!(if readable { json.trim() } else { "" }, if readable { delivery.metadata.as_str() } else { "" })
        }
        Value::Null => assert_eq!(delivery.metadata, Metadata::default()),
        _ => assert!(delivery.metadata.unreadable().is_some()),
    }
    if let Some(block) = record["block"].as_u64() {
        assert_eq!(delivery.block.as_u64(), block);
    }
    for (name, key) in [("sender", delivery.sender), ("recipient", delivery.recipient)] {
        assert_eq!(text(&[name]).and_then(|text| text.parse().ok()), key, "{name}");
    }
}

fn check_welcome(text: &str) -> bool {
    let welcome = match parse_welcome(text) {
        Ok(welcome) => welcome,
        Err(error) => {
            check_refusal(&error, &[ErrorKind::Protocol]);
            return false;
        }
    };
    match write_welcome(&welcome) {
        Ok(frame) => {
            let Ok(Pushed::Answer(Answer::Pass(text))) = Pushed::parse(&frame) else { panic!("no answer: {frame}") };
            assert_eq!(parse_welcome(text).unwrap(), welcome);
        }
        // A peer's announcement may hold what ours must not.
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(welcome.config.iter().count() > 0);
        }
    }
    true
}
