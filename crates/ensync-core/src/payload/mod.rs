//! A payload's JSON text; what an engine may know of a payload that it cannot read; and the schemas it checks that against.

mod document;
mod schema;
mod skeleton;

pub use document::PayloadJson;
pub use schema::Schema;
pub use skeleton::{FieldType, PayloadMetadata};
