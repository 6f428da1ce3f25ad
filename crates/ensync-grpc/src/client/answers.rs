//! The bodies of answers as they pass, so that what is wrong with one is told from what an engine says.
//!
//! tonic tells of an answer that it cannot read with a status that could as well be the engine's: "too large" of the answer reads
//! like "too large" of the request, which an engine would not have carried out.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{HeaderMap, HeaderValue};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use percent_encoding::percent_decode;

/// The body of an answer: messages of at most so many bytes, and where it answers a single call at most one.
#[derive(Debug)]
pub(crate) struct Answer<B = Incoming> {
    body: B,
    messages: Messages,
}

impl<B> Answer<B> {
    /// `many` if messages may follow each other, as in a stream.
    pub(super) fn new(body: B, most: usize, many: bool) -> Self {
        Self { body, messages: Messages { most, many, seen: 0, head: [0; HEAD], read: 0, skip: 0 } }
    }
}

/// Why an answer cannot be read, whatever it says. It came after the request was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A message is, or claims to be, larger than what is taken.
    TooLarge { bytes: u32, most: usize },
    /// More than one message answers one call.
    Several,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, most } => {
                write!(f, "the engine's message has, or claims, {bytes} bytes, and this client takes {most}")
            }
            Self::Several => f.write_str("the engine answered one call with several messages"),
        }
    }
}

impl std::error::Error for Unreadable {}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else { return Poll::Ready(None) };
        let mut frame = frame.map_err(Into::into)?;
        if let Some(data) = frame.data_ref() {
            self.messages.next(data.chunk())?;
        } else if let Some(trailers) = frame.trailers_mut() {
            make_readable(trailers);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Of gRPC over HTTP/2, "Length-Prefixed-Message": whether it is compressed (1), length (4).
const HEAD: usize = 5;

/// Follows the messages of a body from its first byte on.
#[derive(Debug)]
struct Messages {
    most: usize,
    many: bool,
    seen: usize,
    head: [u8; HEAD],
    read: usize,
    /// How many bytes of the current message are to come.
    skip: usize,
}

impl Messages {
    fn next(&mut self, mut bytes: &[u8]) -> Result<(), Unreadable> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let missing = self.head.get_mut(self.read..).unwrap_or_default();
            let taken = missing.len().min(bytes.len());
            for (slot, byte) in missing.iter_mut().zip(bytes) {
                *slot = *byte;
            }
            self.read += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.read < HEAD {
                return Ok(());
            }
            let [_, length @ ..] = self.head;
            let length = u32::from_be_bytes(length);
            self.read = 0;
            self.seen = self.seen.saturating_add(1);
            self.skip = usize::try_from(length).unwrap_or(usize::MAX);
            if self.skip > self.most {
                return Err(Unreadable::TooLarge { bytes: length, most: self.most });
            }
            if self.seen > 1 && !self.many {
                return Err(Unreadable::Several);
            }
        }
        Ok(())
    }
}

/// The reason beside a status is percent-encoded UTF-8 (gRPC over HTTP/2, "Status-Message"). Of one that is not, what can be read is
/// kept: tonic would forget the status with it. Details, which nobody here reads, are left out: tonic panics at those that are no
/// base64.
pub(super) fn make_readable(headers: &mut HeaderMap) {
    const REASON: &str = "grpc-message";
    headers.remove("grpc-status-details-bin");
    let Some(reason) = headers.get(REASON) else { return };
    let decoded = percent_decode(reason.as_bytes());
    if let Err(_not_utf8) = decoded.clone().decode_utf8() {
        let shown: String = decoded
            .decode_utf8_lossy()
            .chars()
            .map(|c| if c.is_ascii_graphic() && c != '%' || c == ' ' { c } else { '?' })
            .collect();
        let shown = HeaderValue::try_from(shown).unwrap_or(HeaderValue::from_static("the reason cannot be read"));
        headers.insert(REASON, shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(length: u32, bytes: usize) -> Vec<u8> {
        [&[0][..], &length.to_be_bytes(), &vec![7; bytes]].concat()
    }

    fn read(most: usize, many: bool, bytes: &[u8], cut: usize) -> Result<(), Unreadable> {
        let mut messages = Answer::new((), most, many).messages;
        bytes.chunks(cut).try_for_each(|part| messages.next(part))
    }

    #[test]
    fn messages_are_followed_however_the_bytes_are_cut() {
        let two = [framed(0, 0), framed(300, 300)].concat();
        let lie = [framed(3, 3), framed(u32::MAX, 9)].concat();
        for cut in [1, 2, 4, 5, 6, 100, 1_000] {
            assert_eq!(read(300, true, &two, cut), Ok(()));
            assert_eq!(read(299, true, &two, cut), Err(Unreadable::TooLarge { bytes: 300, most: 299 }));
            assert_eq!(read(300, false, &two, cut), Err(Unreadable::Several));
            assert_eq!(read(300, false, &framed(300, 300), cut), Ok(()));
            assert_eq!(read(300, true, &lie, cut), Err(Unreadable::TooLarge { bytes: u32::MAX, most: 300 }));
        }
    }

    #[test]
    fn of_a_reason_that_is_no_utf8_is_kept_what_can_be_read() {
        for (before, after) in [
            ("no%20such%20app", "no%20such%20app"),
            ("f%C3%BCr niemand", "f%C3%BCr niemand"),
            ("no%FFsuch%1B 100%25", "no?such? 100?"),
            ("%FF", "?"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-message", before.parse().unwrap());
            make_readable(&mut headers);
            assert_eq!(headers["grpc-message"], after);
        }
        let mut details = HeaderMap::new();
        details.insert("grpc-status-details-bin", "!".parse().unwrap());
        make_readable(&mut details);
        assert!(details.is_empty());
    }
}
