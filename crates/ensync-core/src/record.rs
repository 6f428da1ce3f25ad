//! An event as a JSON object: how engines hand one out where their wire has no message of its own for it.

use std::borrow::Cow;
use std::time::Duration;

use crate::json::{self, Member};
use crate::{AppId, Block, Delivery, Error, ErrorKind, EventId, EventName, Metadata, Result, Timestamp, WirePayload};

impl Delivery {
    /// Reads an event's record: the JSON object in which an engine hands out an event, over WebSocket each, and over gRPC one that it was
    /// asked for again. Then it is known which was `asked` for, by name and id, and a record need hold no more than the payload.
    ///
    /// Engines differ, so this takes `idem`, `id`, `message_idem` or `event_idem`; `name`, `eventName`, `messageName`, `message_name` or
    /// `event_name`; `block` or `partition_block`, a number or text; `loggedAt` or `logged_at`; metadata that is an object or the text of
    /// one. A sender or recipient that is no key is left out, and metadata that cannot be read is [empty](Metadata::unreadable): the event
    /// can be settled all the same. What it does not know of it passes over unread.
    ///
    /// ```
    /// use ensync_core::Delivery;
    ///
    /// let record = r#"{"name":"orders/new","idem":"e-1","block":7,"payload":"e30=","metadata":{"persist":true}}"#;
    /// let delivery = Delivery::from_record(record, None)?;
    /// assert_eq!((delivery.id.as_str(), delivery.metadata.persist()), ("e-1", Some(true)));
    /// # Ok::<(), ensync_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] names the field that is missing or wrong. The payload is never part of it.
    pub fn from_record(json: &str, asked: Option<(&EventName, &EventId)>) -> Result<Self> {
        let record = Record::read(json)?;
        let payload = record.text(&["payload"]);
        if asked.is_some() && payload.is_none() {
            return Err(wrong("payload", "is missing"));
        }
        let names = ["name", "eventName", "messageName", "message_name", "event_name"];
        let ids = ["idem", "id", "message_idem", "event_idem"];
        let blocks = ["block", "partition_block"];
        let name = record.field(&names, record.text(&names), EventName::parse_stored)?;
        let id = record.field(&ids, record.text(&ids), EventId::parse)?;
        let block = record.field(&blocks, record.word(&blocks), Block::parse)?;
        let key = |name| record.text(&[name]).and_then(|(_, id)| AppId::parse(&id).ok());
        Ok(Self {
            event: or_missing("name", name.or_else(|| asked.map(|(name, _)| name.clone())))?,
            id: or_missing("idem", id.or_else(|| asked.map(|(_, id)| id.clone())))?,
            block: or_missing("block", block.or_else(|| asked.map(|_| Block::UNKNOWN)))?,
            payload: WirePayload::from_wire(payload.map_or_else(String::new, |(_, payload)| payload.into_owned())),
            metadata: record.metadata(),
            sender: key("sender"),
            recipient: key("recipient"),
            timestamp: record.number(&["loggedAt", "logged_at"]).map(Timestamp::from_millis),
            attempt: record.number(&["attempt"]).and_then(|attempt| attempt.try_into().ok()),
            lease: record.number(&["leaseMs"]).map(Duration::from_millis),
        })
    }
}

/// The members, each as it stands there: one that is of the wrong type must not cost the others.
struct Record<'a>(Vec<Member<'a>>);

/// A field by the name that it has, and what it says.
type Said<'a> = Option<(&'static str, Cow<'a, str>)>;

impl<'a> Record<'a> {
    fn read(json: &'a str) -> Result<Self> {
        const WHAT: &str = "an event's record";
        json::outline(json)
            .map(Self)
            .map_err(|fault| Error::new(ErrorKind::Protocol, format!("{WHAT} is no JSON object: {fault}")))
    }

    /// A value as it stands there; JSON's null says nothing.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|member| member.name == name).map(|member| member.value).filter(|value| *value != "null")
    }

    /// The first of these that is text.
    fn text(&self, names: &[&'static str]) -> Said<'a> {
        names.iter().find_map(|name| Some((*name, json::text(self.get(name)?)?)))
    }

    /// The first of these that is text or a number, as text.
    fn word(&self, names: &[&'static str]) -> Said<'a> {
        self.text(names).or_else(|| {
            let number = |value: &&str| value.starts_with(|c: char| c.is_ascii_digit() || c == '-');
            names.iter().find_map(|name| Some((*name, Cow::Borrowed(self.get(name).filter(number)?))))
        })
    }

    /// Left out where it is none: what it would tell can be done without.
    fn number(&self, names: &[&'static str]) -> Option<u64> {
        self.word(names).and_then(|(_, number)| number.parse().ok())
    }

    /// What one of these says; `None` if there is none of them.
    fn field<T>(
        &self,
        names: &[&'static str],
        said: Said<'a>,
        parse: impl FnOnce(&str) -> Result<T>,
    ) -> Result<Option<T>> {
        const UNREADABLE: &str = "cannot be read";
        match said {
            Some((name, text)) => parse(&text).map(Some).map_err(|cause| wrong(name, UNREADABLE).with_source(cause)),
            None => match names.iter().find(|name| self.get(name).is_some()) {
                Some(name) => Err(wrong(name, UNREADABLE)),
                None => Ok(None),
            },
        }
    }

    fn metadata(&self) -> Metadata {
        let text = self.text(&["metadata"]).map(|(_, text)| text);
        text.or_else(|| self.get("metadata").map(Cow::Borrowed))
            .map_or_else(Metadata::default, |text| Metadata::delivered(&text))
    }
}

fn or_missing<T>(name: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| wrong(name, "is missing"))
}

fn wrong(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("an event's record: the field {name} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=";

    fn pushed(json: &str) -> Result<Delivery> {
        Delivery::from_record(json, None)
    }

    fn replayed(json: &str) -> Result<Delivery> {
        let (name, id) = (EventName::parse("asked/for").unwrap(), EventId::parse("asked").unwrap());
        Delivery::from_record(json, Some((&name, &id)))
    }

    #[test]
    fn every_spelling_of_the_peers_is_read() {
        for json in [
            r#"{"name":"a","idem":"x","block":3,"payload":"e30=","metadata":{"k":1},"loggedAt":5,"attempt":1}"#,
            r#"{"eventName":"a","id":"x","block":"3","payload":"e30=","metadata":"{\"k\":1}","logged_at":"5","attempt":"1"}"#,
            r#"{"message_name":"a","message_idem":"x","partition_block":"3","payload":"e30=","metadata":"{\"k\":1}","logged_at":5,
                "attempt":1}"#,
            r#"{"event_name":"a","event_idem":"x","partition_block":3,"payload":"e30=","metadata":{"k":1},"logged_at":5,"attempt":1}"#,
            r#" {"messageName":"a","name":null,"idem":"x","id":"other","block":3,"payload":"e3\u0030=","metadata": {"k":1} ,"loggedAt":5,
                "attempt":1,"is_group":[[{"deep":{}}]],"sender":null,"recipient":"not a key"} "#,
        ] {
            for read in [pushed(json).unwrap(), replayed(json).unwrap()] {
                assert_eq!((read.event.as_str(), read.id.as_str(), read.block.as_u64()), ("a", "x", 3), "{json}");
                let payload = read.payload.as_str().unwrap();
                assert_eq!((payload, read.metadata.as_str()), ("e30=", r#"{"k":1}"#), "{json}");
                assert_eq!((read.timestamp.unwrap().as_millis(), read.attempt), (5, Some(1)), "{json}");
                assert_eq!((read.sender, read.recipient), (None, None), "{json}");
            }
        }
        let keys =
            pushed(&format!(r#"{{"name":"a","idem":"x","block":3,"sender":"{KEY}","recipient":"{KEY}"}}"#)).unwrap();
        assert_eq!((keys.sender, keys.recipient), (AppId::parse(KEY).ok(), AppId::parse(KEY).ok()));
    }

    #[test]
    fn a_record_need_not_say_everything() {
        let bare = pushed(r#"{"name":"a","idem":"x","block":3,"metadata":null,"sender":7,"loggedAt":{}}"#).unwrap();
        assert_eq!(bare.metadata, Metadata::default());
        assert_eq!((bare.payload.len(), bare.sender, bare.timestamp, bare.lease), (0, None, None, None));
        let known = replayed(r#"{"payload":"e30=","name":null}"#).unwrap();
        assert_eq!((known.event.as_str(), known.id.as_str(), known.block), ("asked/for", "asked", Block::UNKNOWN));
    }

    #[test]
    fn a_broken_record_names_its_field() {
        for (json, part) in [
            ("", "record is no JSON object"),
            ("[]", "record is no JSON object"),
            (r#"{"name":"a""#, "record is no JSON object"),
            (r#"{"name":"a","name":"b","idem":"x","block":1,"payload":""}"#, "a name that its object has already"),
            (r#"{"name":7,"idem":"x","block":1,"payload":""}"#, "name cannot be read"),
            (r#"{"name":"a b","idem":"x","block":1,"payload":""}"#, "name cannot be read"),
            (r#"{"name":"a","id":"x;y","block":1,"payload":""}"#, "field id cannot be read"),
            (r#"{"name":"a","idem":"x","block":-1,"payload":""}"#, "block cannot be read"),
            (r#"{"name":"a","idem":"x","partition_block":1e3,"payload":""}"#, "partition_block cannot be read"),
            (r#"{"name":"a","idem":"x","block":{},"payload":""}"#, "block cannot be read"),
        ] {
            for error in [pushed(json).unwrap_err(), replayed(json).unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Protocol);
                assert!(error.to_string().contains(part), "{json}: {error}");
            }
        }
        for (json, part) in [
            (r#"{"idem":"x","block":1}"#, "name is missing"),
            (r#"{"name":"a","block":1}"#, "idem is missing"),
            (r#"{"name":"a","idem":"x"}"#, "block is missing"),
        ] {
            assert!(pushed(json).unwrap_err().to_string().contains(part), "{json}");
            assert!(replayed(json).unwrap_err().to_string().contains("payload is missing"), "{json}");
        }
    }

    #[test]
    fn metadata_that_cannot_be_read_does_not_cost_the_event() {
        let deep = |levels: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
        for (metadata, why) in [
            ("[]", "not a JSON object"),
            (r#""x""#, "line 1 column 1"),
            (r#"{"a":1,"a":2}"#, "a name that its object has already"),
            (r#"{"a":"\ud800"}"#, "half of a surrogate pair"),
            (r#"{"n":NaN}"#, "a value should stand here"),
            (&deep(127), "more than 127 levels"),
            (&deep(100_000), "more than 127 levels"),
        ] {
            let json = format!(
                r#"{{"name":"a","idem":"x","block":1,"metadata":{metadata},"more":"\ud800","payload":"e30="}}"#
            );
            for read in [pushed(&json).unwrap(), replayed(&json).unwrap()] {
                assert_eq!((read.id.as_str(), read.block.as_u64(), read.payload.len()), ("x", 1, 4), "{json:.80}");
                let told = read.metadata.unreadable().map(ToString::to_string).unwrap();
                assert!(read.metadata.as_str() == "{}" && told.contains(why), "{json:.80}: {told}");
            }
        }
        // As deep as a document may be by itself.
        let json = format!(r#"{{"name":"a","idem":"x","block":1,"metadata":{}}}"#, deep(126));
        assert_eq!(pushed(&json).unwrap().metadata.as_str(), deep(126));
    }

    /// serde_json takes two names for its own, and reads what stands behind one anew, without regard to depth. A thread of a program has
    /// 2 MiB of stack; this one has less.
    #[test]
    fn no_name_in_a_field_switches_the_parser() {
        let bomb = |name: &str| {
            let levels = |inner: &str| {
                let inner = serde_json::to_string(inner).unwrap();
                format!("{}{{\"{name}\":{inner}}}{}", "[".repeat(120), "]".repeat(120))
            };
            (0..9).fold("1".to_owned(), |inner, _| levels(&inner))
        };
        let fields = [
            "name",
            "idem",
            "block",
            "partition_block",
            "payload",
            "metadata",
            "sender",
            "recipient",
            "loggedAt",
            "attempt",
            "leaseMs",
        ];
        let names = ["$serde_json::private::RawValue", "$serde_json::private::Number"];
        let check = move || {
            for (field, name) in fields.iter().flat_map(|field| names.map(|name| (field, name))) {
                for value in [bomb(name), format!(r#"{{"{name}":"\"{KEY}\""}}"#), format!(r#"{{"{name}":"7"}}"#)] {
                    let json = format!(r#"{{"payload":"e30=","{field}":{value}}}"#);
                    let json = if *field == "payload" { json.replacen(r#""payload":"e30=","#, "", 1) } else { json };
                    let Ok(read) = replayed(&json) else { continue };
                    assert_eq!((read.sender, read.recipient, read.block), (None, None, Block::UNKNOWN), "{json:.80}");
                    assert_eq!((read.timestamp, read.attempt, read.lease), (None, None, None), "{json:.80}");
                    let optional = ["metadata", "sender", "recipient", "loggedAt", "attempt", "leaseMs"];
                    assert!(optional.contains(field), "{json:.80}");
                    let kept = read.metadata.as_str() == value || read.metadata.unreadable().is_some();
                    assert!(*field != "metadata" || kept);
                }
            }
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(check).unwrap().join().unwrap();
    }
}
