//! Schemas, as requests and answers write them. A field may have any name.

use std::fmt;

use ensync_core::Schema;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A schema that was sent: the type of each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields(pub(super) Schema);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Through no [`Value`](serde_json::Value): some names would switch how that is read.
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"an object that holds the type of each field, like {"order": "string"}"#)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Fields, A::Error> {
                let mut read = std::collections::BTreeMap::new();
                while let Some((name, kind)) = members.next_entry::<String, String>()? {
                    read.insert(name, kind);
                }
                let text = serde_json::to_string(&read).map_err(A::Error::custom)?;
                // Its message says that it is about a schema, and so does the place.
                let refused =
                    |error: ensync_core::Error| A::Error::custom(error.to_string().trim_start_matches("schema: "));
                Schema::parse(&text).map(Fields).map_err(refused)
            }
        }

        deserializer.deserialize_any(Object)
    }
}

/// A schema that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Types(pub(super) Schema);

impl Serialize for Types {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.fields().map(|(field, kind)| (field, kind.to_string())))
    }
}
