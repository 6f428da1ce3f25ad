use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ensync_core::crypto::{self, Expected, Inspected, Opener};
use ensync_core::{AppId, ErrorKind, EventName, Result, WirePayload};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::check_refusal;
use super::envelope::WORLD;

/// Takes the input for the header of a sealed envelope whose other members are those of a good one.
pub fn sealed_header(input: &[u8]) -> bool {
    let expected = read(input);
    let mut taken = false;
    for vector in &WORLD.sealed {
        let signed = vector.get("signature").is_some();
        let wire = envelope(input, vector);
        match (crypto::inspect(&wire), &expected) {
            (Ok(inspected), Some((header, enc))) if header.signed == signed => {
                assert_eq!(told(&inspected), *header);
                let again = envelope(write(header, enc).as_bytes(), vector);
                assert_eq!(crypto::inspect(&again).unwrap(), inspected);
                taken = true;
            }
            (Ok(_), expected) => panic!("taken, though it is {expected:?} and signed is {signed}"),
            (Err(error), Some((header, _))) if header.signed == signed => panic!("{error}, though it is {header:?}"),
            (Err(error), _) => {
                check_refusal(&error, &[ErrorKind::MalformedEnvelope, ErrorKind::UnsupportedEnvelope]);
            }
        }
        check_authentic(&wire, input, vector);
    }
    taken
}

/// The envelope's key depends on every byte of its header, so only its own header opens.
fn check_authentic(wire: &WirePayload, header: &[u8], vector: &Value) {
    let opened = Opener::new(WORLD.ring.clone()).open(wire, &Expected::any_event());
    let own = STANDARD.encode(header) == vector["header"];
    assert_eq!(opened.is_ok(), own, "{:?}", opened.map_err(|error| error.to_string()));
    if let Err(error) = opened {
        check_refusal(
            &error,
            &[
                ErrorKind::MalformedEnvelope,
                ErrorKind::UnsupportedEnvelope,
                ErrorKind::NotForMe,
                ErrorKind::DoesNotOpen,
            ],
        );
    }
}

/// A good envelope with another header.
fn envelope(header: &[u8], vector: &Value) -> WirePayload {
    let mut envelope = vector.clone();
    envelope["header"] = STANDARD.encode(header).into();
    WirePayload::from_wire(STANDARD.encode(envelope.to_string()))
}

/// A header by the rules, read by other means than the library's.
#[derive(Debug, PartialEq)]
struct Header {
    event: String,
    to: [u8; 32],
    from: Option<[u8; 32]>,
    id: String,
    created: u64,
    signed: bool,
}

/// The header that the input is, and its `enc`, which the library does not tell.
fn read(input: &[u8]) -> Option<(Header, String)> {
    if input.len() > 4096 {
        return None;
    }
    let Members(mut members) = serde_json::from_slice(input).ok()?;
    let mut text = |name| match members.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (event, id, to, enc) = (text("event")?, text("id")?, text("to")?, text("enc")?);
    key(&enc)?;
    EventName::parse(&event).ok()?;
    if id.is_empty() || id.len() > 64 || id.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_') {
        return None;
    }
    // A number with a fraction or an exponent is none that fits an integer here, whatever its value.
    if members.remove("v")?.as_u64()? != 1 {
        return None;
    }
    let created = members.remove("created")?.as_u64().filter(|millis| *millis < 1 << 53)?;
    let from = match members.remove("from") {
        None => None,
        Some(from) => Some(key(from.as_str()?)?),
    };
    let signed = match members.remove("signed") {
        None => false,
        Some(Value::Bool(true)) if from.is_some() => true,
        Some(_) => return None,
    };
    members.is_empty().then_some((Header { event, to: key(&to)?, from, id, created, signed }, enc))
}

/// 32 bytes in the one spelling that base64 has for them.
fn key(text: &str) -> Option<[u8; 32]> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| STANDARD.encode(bytes) == text)?;
    bytes.try_into().ok()
}

/// The members of an object, each once.
struct Members(BTreeMap<String, Value>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = object.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member occurs twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        object.deserialize_map(Object)
    }
}

fn told(inspected: &Inspected) -> Header {
    let Inspected::Sealed { event, to, from, id, created, signed, .. } = inspected else {
        panic!("not a sealed envelope: {inspected:?}")
    };
    Header {
        event: event.to_string(),
        to: *to.as_bytes(),
        from: from.as_ref().map(AppId::as_bytes).copied(),
        id: id.to_string(),
        created: created.as_millis(),
        signed: *signed,
    }
}

/// The header written in another order.
fn write(header: &Header, enc: &str) -> String {
    let mut members: BTreeMap<&str, Value> = BTreeMap::from([
        ("v", 1.into()),
        ("event", header.event.as_str().into()),
        ("to", STANDARD.encode(header.to).into()),
        ("id", header.id.as_str().into()),
        ("created", header.created.into()),
        ("enc", enc.into()),
    ]);
    if let Some(from) = header.from {
        members.insert("from", STANDARD.encode(from).into());
    }
    if header.signed {
        members.insert("signed", true.into());
    }
    serde_json::to_string(&members).unwrap()
}
