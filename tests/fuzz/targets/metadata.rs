use ensync_core::{ErrorKind, Metadata, PayloadMetadata, ReplayInfo, Schema, Timestamp};
use serde_json::{Map, Value};

use super::{check_refusal, unique};

/// Takes the input for an event's metadata, a payload, a payload's metadata and a schema; and, where it has two lines, the first for
/// the schema of the second.
pub fn metadata(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    if let Some((schema, payload)) = text.split_once('\n')
        && let (Ok(schema), Ok(payload)) = (Schema::parse(schema), PayloadMetadata::of_json(payload))
    {
        check_fit(&schema, &payload);
    }
    let taken = [check_metadata(text), check_payload(text), check_payload_metadata(text), check_schema(text)];
    taken.contains(&true)
}

fn check_metadata(text: &str) -> bool {
    let metadata = match Metadata::parse(text) {
        Ok(metadata) => metadata,
        Err(error) => {
            check_refusal(&error, &[ErrorKind::InvalidInput]);
            assert!(text.trim_ascii().is_empty() || !matches!(unique(text), Some(Value::Object(_))));
            return false;
        }
    };
    assert!(depth(text) <= 127, "nested {} deep", depth(text));
    if !text.trim_ascii().is_empty() {
        assert_eq!(metadata.as_str(), text.trim_ascii());
    }
    assert_eq!(Metadata::parse(metadata.as_str()).unwrap(), metadata);
    let fields = metadata.fields();
    assert_eq!(unique(metadata.as_str()), Some(Value::Object(fields.clone())));
    assert_eq!(Metadata::from_fields(fields.clone()).unwrap().fields(), fields);
    for (key, value) in &fields {
        assert_eq!(metadata.field(key).as_ref(), Some(value));
    }
    for (key, value) in metadata.headers() {
        assert_eq!(metadata.header(&key), Some(value));
    }
    check_replay(&metadata, &fields);
    true
}

fn check_replay(metadata: &Metadata, fields: &Map<String, Value>) {
    if let Some(info) = metadata.replay_info() {
        assert!(fields.contains_key("$internal"), "{info:?}");
    }
    for was_acknowledged in [false, true] {
        let now = Timestamp::from_millis(1 << 53);
        let annotated = ReplayInfo::annotate(metadata, now, was_acknowledged);
        let info = annotated.replay_info().unwrap();
        assert_eq!(
            (info.is_replayed, info.replayed_at, info.was_acknowledged),
            (true, Some(now), Some(was_acknowledged))
        );
        assert_eq!((annotated.headers(), annotated.persist()), (metadata.headers(), metadata.persist()));
        let users = |fields: &Map<String, Value>| {
            let mut fields = fields.clone();
            fields.retain(|key, _| !key.starts_with('$') && key != "headers");
            fields
        };
        assert_eq!(users(&annotated.fields()), users(fields));
    }
}

fn check_payload(text: &str) -> bool {
    let about = match PayloadMetadata::of_json(text) {
        Ok(about) => about,
        Err(error) => {
            check_refusal(&error, &[ErrorKind::InvalidPayload]);
            assert_eq!(unique(text), None);
            return false;
        }
    };
    assert_eq!(about.byte_size, text.len() as u64);
    assert_eq!(PayloadMetadata::parse(&about.to_json()).unwrap(), about);
    // A payload fits the schema that is its own shape.
    let skeleton = about.skeleton.as_ref().unwrap();
    assert_eq!(about.field_count, Some(skeleton.len() as u64));
    let shape: Value = skeleton.iter().map(|(field, kind)| (field.clone(), Value::from(kind.to_string()))).collect();
    let schema = Schema::parse(&shape.to_string()).unwrap();
    assert!(schema.fields().eq(skeleton.iter().map(|(field, kind)| (field.as_str(), *kind))));
    schema.check(&about).unwrap();
    true
}

fn check_payload_metadata(text: &str) -> bool {
    match PayloadMetadata::parse(text) {
        Ok(about) => {
            assert_eq!(PayloadMetadata::parse(&about.to_json()).unwrap(), about);
            true
        }
        Err(error) => {
            check_refusal(&error, &[ErrorKind::InvalidInput]);
            false
        }
    }
}

fn check_schema(text: &str) -> bool {
    match Schema::parse(text) {
        Ok(schema) => {
            assert_eq!(Schema::parse(&schema.to_json()).unwrap(), schema);
            true
        }
        Err(error) => {
            check_refusal(&error, &[ErrorKind::InvalidInput]);
            false
        }
    }
}

/// Only a field of the schema can be wrong, and one that is missing always is.
fn check_fit(schema: &Schema, payload: &PayloadMetadata) {
    let skeleton = payload.skeleton.as_ref().unwrap();
    let missing = schema.fields().any(|(field, _)| !skeleton.contains_key(field));
    match schema.check(payload) {
        Ok(()) => assert!(!missing),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
            // Long names are cut.
            let shown = |field: &str| format!("{:?}", field.chars().take(64).collect::<String>());
            assert!(schema.fields().any(|(field, _)| error.to_string().contains(&shown(field))), "{error}");
        }
    }
}

/// How many brackets are open at once, in text that is JSON.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for c in json.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_text,
            '"' => in_text = !in_text,
            '{' | '[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            '}' | ']' if !in_text => depth -= 1,
            _ => {}
        }
    }
    deepest
}
