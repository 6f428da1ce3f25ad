//! Every value that is read from a text is read from whatever holds one, and from a reference to itself, with the same result.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::borrow::Cow;
use std::fmt::Debug;
use std::str::FromStr;

use ensync_core::crypto::Suite;
use ensync_core::{
    AppId, AppKey, AppName, Block, ClientId, Endpoint, Error, ErrorKind, EventId, EventName, IdempotencyKey, Keyring,
    Metadata, PayloadJson, PayloadMetadata, Schema, Scheme, SecretKey, Timestamp,
};

const SECRET: &str = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03w==";

/// What the bounds say is most of the test: a type that lacks one of these ways does not compile here.
fn alike<T>(good: &str, bad: &str)
where
    T: Clone
        + Debug
        + FromStr<Err = Error>
        + for<'a> TryFrom<&'a str, Error = Error>
        + TryFrom<String, Error = Error>
        + for<'a> TryFrom<&'a String, Error = Error>
        + for<'a> TryFrom<Cow<'a, str>, Error = Error>
        + for<'a> TryFrom<&'a T, Error = Error>,
{
    let every_way = |text: &str| -> [Result<T, Error>; 6] {
        let owned = text.to_owned();
        [
            text.parse(),
            T::try_from(text),
            T::try_from(&owned),
            T::try_from(owned.clone()),
            T::try_from(Cow::<str>::Borrowed(text)),
            T::try_from(Cow::<str>::Owned(owned)),
        ]
    };
    let (what, value) = (std::any::type_name::<T>(), good.parse::<T>().unwrap());
    let shown = |value: &T| format!("{value:?}");
    for read in every_way(good).into_iter().chain([T::try_from(&value)]) {
        assert_eq!(shown(&read.unwrap()), shown(&value), "{what}");
    }
    let error = bad.parse::<T>().unwrap_err();
    for read in every_way(bad) {
        let told = read.unwrap_err();
        assert_eq!((told.kind(), told.to_string()), (error.kind(), error.to_string()), "{what}");
    }
}

#[test]
fn every_value_is_read_alike_from_all_that_holds_a_text() {
    alike::<AppId>("oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=", "oV/L");
    alike::<AppKey>("ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA", "");
    alike::<SecretKey>(SECRET, "7NIy");
    alike::<Keyring>(&format!("{SECRET},{SECRET}"), ",");
    alike::<ClientId>("c-1", "c 1");
    alike::<EventId>("e-1", "e 1");
    alike::<IdempotencyKey>("k-1", "");
    alike::<Block>("7", "-7");
    alike::<EventName>("orders/status/updated", "orders//updated");
    alike::<AppName>("order service", " order service");
    alike::<Scheme>("ws", "http");
    alike::<Endpoint>("wss://engine.example.com", "ftp://engine.example.com");
    alike::<ErrorKind>("interrupted", "broken");
    alike::<Suite>("aes-256-gcm", "aes");
    alike::<Timestamp>("2023-11-14T22:13:20.123Z", "2023-11-14");
    alike::<Metadata>(r#"{"headers":{"a":1.10}}"#, "[]");
    alike::<PayloadMetadata>(r#"{"byte_size":1}"#, "[]");
    alike::<PayloadJson>(r#"{"a":1}"#, r#"{"a":1,"a":2}"#);
    alike::<Schema>(r#"{"a":"string"}"#, "[]");
}

/// The table above names every type: one that is added gets its line there.
#[test]
fn no_type_that_is_read_from_a_text_is_left_out() {
    fn sources(directory: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, text),
                false => text.push_str(&std::fs::read_to_string(&path).unwrap()),
            }
        }
    }
    let (mut code, table) = (String::new(), include_str!("conversions.rs"));
    sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    let mut found = 0;
    for block in code.split("\nimpl ").skip(1) {
        let (name, body) = block.split_once('{').unwrap();
        let body = body.split("\n}\n").next().unwrap();
        if name.trim().chars().all(char::is_alphanumeric) && body.contains("\n    pub fn parse(") {
            found += 1;
            assert!(table.contains(&format!("alike::<{}>(", name.trim())), "{name} is not in the table");
        }
    }
    assert!(found >= 14, "{found}");
}
