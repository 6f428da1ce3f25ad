//! The examples are the files beside this one: `cargo run --example quickstart`, and so on. Each starts an engine of its own, in
//! the same process, so that it needs nothing else.
