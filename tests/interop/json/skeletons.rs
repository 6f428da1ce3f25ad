//! What type each maker of skeletons gives a value, and what schemas make of that.

use std::path::Path;

use ensync_sdk::{FieldType, PayloadMetadata, Schema};
use serde_json::{Map, Value};

use super::{ask, node, python};
use crate::table;

/// Every kind of value, at its bounds.
const VALUES: [&str; 26] = [
    "null",
    "true",
    "false",
    "\"\"",
    "\"1\"",
    "[]",
    "[1]",
    "{}",
    r#"{"a":1}"#,
    "0",
    "-0",
    "1",
    "-1",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1.0",
    "-0.0",
    "0.1",
    "1e2",
    "1e-400",
];

const TYPES: [&str; 12] =
    ["string", "integer", "int", "long", "double", "float", "number", "boolean", "bool", "object", "array", "null"];

/// Who makes a skeleton: the two Python clients make their own, Node's makes none, so what Node writes is looked at by us. None of them has
/// a checker of schemas to compare ours with. So it is compared with itself: a type takes a value whoever sent it, but where a sender's
/// skeleton says less of a number, or Node writes another number.
pub async fn agree(clients: &Path) {
    let documents: Vec<String> = VALUES.iter().map(|value| format!(r#"{{"field":{value}}}"#)).collect();
    let skeleton = |venv| {
        let mut command = python(clients, venv);
        command.arg("skeleton");
        command
    };
    let mut again = node();
    again.arg("again");
    let (now, before, again) = tokio::join!(
        ask(skeleton("ensync-sdk-0.4.4"), &documents),
        ask(skeleton("ensync-sdk-0.3.3"), &documents),
        ask(again, &documents),
    );
    let mut rows = Vec::new();
    for (n, value) in VALUES.iter().enumerate() {
        let ours = PayloadMetadata::of_json(&documents[n]).unwrap();
        let [now, before] = [&now[n], &before[n]].map(|skeleton| {
            let skeleton: Map<String, Value> = serde_json::from_str(skeleton).unwrap();
            PayloadMetadata::parse(&serde_json::json!({"byte_size": 9, "skeleton": skeleton}).to_string()).unwrap()
        });
        let node = PayloadMetadata::of_json(&again[n]).unwrap();
        let kinds = [&ours, &now, &before, &node].map(|about| about.skeleton.as_ref().unwrap()["field"]);
        assert_eq!(kinds[0], kinds[1], "{value}");
        for name in TYPES {
            let schema = Schema::parse(&format!(r#"{{"field":"{name}"}}"#)).unwrap();
            let takes = |about| schema.check(about).is_ok();
            assert_eq!(takes(&ours), fits(kinds[0], name), "{value}, {name}");
            assert_eq!(takes(&now), takes(&ours), "{value}, {name}");
            assert_eq!(takes(&before), takes(&ours) || says_less(kinds, name), "{value}, {name}");
            assert_eq!(takes(&node), fits(kinds[3], name), "{value}, {name}");
        }
        let [ours, now, before, node] = kinds.map(FieldType::name);
        let written = again[n].trim_start_matches(r#"{"field":"#).strip_suffix('}').unwrap();
        rows.push(format!("| `{value}` | {ours} | {now} | {before} | {node}, `{written}` |"));
    }
    table::check_skeletons(&rows);
}

/// Where a type takes a value by the skeleton of ensync-sdk 0.3.3, though it does not by ours: its "integer" is a whole number of any
/// length, and its "number" any other.
fn says_less([ours, _, before, _]: [FieldType; 4], name: &str) -> bool {
    match (ours, before) {
        (FieldType::Long, FieldType::Integer) => matches!(name, "integer" | "int"),
        (FieldType::Double, FieldType::Number) => matches!(name, "integer" | "int" | "long"),
        _ => false,
    }
}

/// What the README of schemas says: the same type, and whole numbers widen.
fn fits(kind: FieldType, name: &str) -> bool {
    match kind {
        FieldType::Integer => matches!(name, "integer" | "int" | "long" | "double" | "float" | "number"),
        FieldType::Long => matches!(name, "long" | "double" | "float" | "number"),
        FieldType::Double => matches!(name, "double" | "float" | "number"),
        FieldType::Boolean => matches!(name, "boolean" | "bool"),
        other => other.name() == name,
    }
}

/// None of the published packages has a checker of schemas; if one comes, it belongs into [`agree`].
pub fn have_no_checker(clients: &Path) {
    let mut looked = 0;
    let mut folders = vec![clients.join("node/node_modules/ensync-client-sdk")];
    for (venv, packages) in [
        ("ensync-sdk-0.4.4", &["ensync_sdk", "ensync_core"][..]),
        ("ensync-sdk-0.3.3", &["ensync"]),
        ("ensync-sdk-ws-0.4.3", &["ensync_sdk_ws", "ensync_core"]),
    ] {
        let versions = std::fs::read_dir(clients.join(venv).join("lib")).unwrap();
        let library =
            versions.map(|version| version.unwrap().path()).find(|version| version.join("site-packages").is_dir());
        let library = library.unwrap().join("site-packages");
        folders.extend(packages.iter().map(|package| library.join(package)));
    }
    for folder in folders {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "py" || extension == "js") {
                looked += 1;
                let source = std::fs::read_to_string(&path).unwrap().to_lowercase();
                assert!(!source.contains("schema"), "{} knows schemas", path.display());
            }
        }
    }
    assert!(looked >= 20, "{looked}");
}
