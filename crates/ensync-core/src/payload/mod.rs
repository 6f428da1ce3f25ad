//! What an engine may know of a payload that it cannot read, and the schemas it checks that against.

mod metadata;
mod schema;

pub use metadata::{FieldType, PayloadMetadata};
pub use schema::Schema;
