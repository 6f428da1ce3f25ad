//! What an engine may know of a payload that it cannot read, and the schemas it checks that against.

mod schema;
mod skeleton;

pub use schema::Schema;
pub use skeleton::{FieldType, PayloadMetadata};
