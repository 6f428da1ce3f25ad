//! What both halves know of WebSocket itself.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The longest frame and message taken, in bytes, unless an option says otherwise.
pub(crate) const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// How long a goodbye may take: to write what is left, and to see the other side's end.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);

/// How many requests of a connection may be without an answer. A client sends no more; an engine reads as many, though it works on
/// fewer at a time, so that it finds the pings that come behind them.
pub(crate) const PIPELINE: usize = 4096;

/// The read buffer is allocated, and touched, per connection: small, for there may be many idle ones. Writes gather until they are
/// flushed, which is what makes pipelining fast.
pub(crate) fn config(max_frame_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(64 * 1024)
        .max_message_size(Some(max_frame_bytes))
        .max_frame_size(Some(max_frame_bytes))
}

/// Ends the stream under a WebSocket on which everything was said: tells the other side that nothing follows, then reads on until
/// it ends too. Closing at once, with input unread, would make TCP drop what the other side has not read yet, such as why we close.
pub(crate) async fn hang_up<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) {
    let stream = socket.get_mut();
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut rest = vec![0; 4096];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
}
