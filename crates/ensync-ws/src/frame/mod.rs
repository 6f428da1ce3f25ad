//! The text grammar of EnSync over WebSocket, both directions, without I/O.
//!
//! ```text
//! request  = "CONN;ACCESS_KEY=:" key
//!          | verb ";CLIENT_ID=:" id *( ";" KEY "=:" value )
//! answer   = "+PASS:" text | "+REPLAY:" record | "-FAIL:" reason        in the order of the requests
//! pushed   = "+RECORD:" record | "PING"                                 in between; "PING" is answered with "PONG"
//! record   = JSON object
//! ```
//!
//! Three kinds of value: `METADATA` and `PAYLOAD_METADATA` hold one JSON value, which may itself hold `;` and `}`; `REASON` is the
//! last key and runs to the end of the frame; any other value ends at the next `;`. Keys come in any order, unknown ones are
//! ignored, repeated ones refused.
//!
//! | verb | keys, in the order in which they are written |
//! |---|---|
//! | `PUB` | `CLIENT_ID` `EVENT_NAME` `PAYLOAD` `DELIVERY_TO` (`IDEMPOTENCY_KEY`) `METADATA` `PAYLOAD_METADATA`? |
//! | `SUB` | `CLIENT_ID` `EVENT_NAME` (`MAX_IN_FLIGHT`) (`MAX_BYTES_IN_FLIGHT`) |
//! | `UNSUB`, `CONTINUE` | `CLIENT_ID` `EVENT_NAME` |
//! | `ACK` | `CLIENT_ID` `EVENT_IDEM` `BLOCK` `EVENT_NAME`? (missing or `undefined`: id and block decide) |
//! | `ROLLBACK`, (`EXTEND`), (`RELEASE`) | `CLIENT_ID` `EVENT_IDEM` `BLOCK` |
//! | `DEFER` | `CLIENT_ID` `EVENT_IDEM` `EVENT_NAME`? `DELAY` (`BLOCK`) `REASON`? |
//! | `DISCARD` | `CLIENT_ID` `EVENT_IDEM` `EVENT_NAME`? (`BLOCK`) `REASON`? |
//! | `PAUSE` | `CLIENT_ID` `EVENT_NAME` `REASON`? |
//! | `REPLAY` | `CLIENT_ID` `EVENT_IDEM` `EVENT_NAME` |
//!
//! `BLOCK` may be called `PARTITION_BLOCK`, as the Go client calls it in `ROLLBACK`. `?` may be missing. Verbs and keys in parentheses are extensions: a client sends them only to an engine that announced them at
//! login (see [`Dialect`]), and an engine takes them from anybody. `EXTEND` starts a delivery's lease anew; its answer,
//! `+PASS:leaseMs=n`, says how long it lasts from now. `RELEASE` hands back a delivery that nobody looked at: like `ROLLBACK`, but it
//! does not count among the deliveries after which an event is given up. A record's member `leaseMs` is another: how long the client
//! may take to settle it, from when it was sent.
//!
//! Every function here takes what a stranger sent: none panics, none recurses deeper than 128 levels of JSON, and each error says
//! which key of which verb is wrong. How long a frame may be is the caller's to limit.

mod answer;
mod fields;
mod record;
mod request;
mod welcome;

pub use answer::{Answer, Expect, Pushed, write_answer};
pub use record::{parse_record, write_record};
pub use request::{Dialect, Request, write_login, write_request};
pub use welcome::{parse_welcome, write_welcome};

/// What an engine sends to ask whether the client is there, and a client may send too.
pub const PING: &str = "PING";
/// The answer to [`PING`].
pub const PONG: &str = "PONG";

/// The keys of the grammar.
const KEYS: [&str; 15] = [
    "ACCESS_KEY",
    "BLOCK",
    "CLIENT_ID",
    "DELAY",
    "DELIVERY_TO",
    "EVENT_IDEM",
    "EVENT_NAME",
    "IDEMPOTENCY_KEY",
    "MAX_BYTES_IN_FLIGHT",
    "MAX_IN_FLIGHT",
    "METADATA",
    "PARTITION_BLOCK",
    "PAYLOAD",
    "PAYLOAD_METADATA",
    "REASON",
];

/// The verbs of the grammar.
const VERBS: [&str; 13] = [
    "CONN", "PUB", "SUB", "UNSUB", "ACK", "ROLLBACK", "DEFER", "DISCARD", "EXTEND", "RELEASE", "REPLAY", "PAUSE",
    "CONTINUE",
];

/// What sort of text stands somewhere. An error says no more of what a stranger sent: a frame out of order may have a key or a session's
/// id anywhere.
fn sort_of(text: &str) -> &'static str {
    match text.bytes().next() {
        None => "nothing",
        Some(b';') => "a semicolon",
        Some(b'{' | b'[' | b'"') => "JSON",
        Some(b'0'..=b'9') => "a number",
        Some(b'A'..=b'Z' | b'a'..=b'z' | b'_') => "a word",
        Some(_) => "something else",
    }
}
