//! Bodies of answers, as connections send them.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Error;
use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::places::UnderWay;

/// What is handed out at a time: whether somebody takes an answer is seen by how far it goes.
const PIECE: usize = 16 << 10;

/// The body of an answer, which notes whenever some of it is taken. Its request is under way until it is dropped.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    rest: Bytes,
    under_way: UnderWay,
}

impl Answer {
    pub(super) fn new(body: Body, under_way: UnderWay) -> Self {
        under_way.moved();
        Self { body, rest: Bytes::new(), under_way }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        this.under_way.moved();
        if this.rest.is_empty() {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => this.rest = bytes,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), u64::try_from(self.rest.len()).unwrap_or(u64::MAX));
        let mut all = SizeHint::new();
        all.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(rest)) {
            all.set_upper(upper);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::admin::places::Places;

    #[tokio::test]
    async fn an_answer_is_handed_out_in_pieces_and_is_what_it_was() {
        let place = Arc::new(Places::new(1).take().unwrap());
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut answer = Answer::new(Body::from(bytes.clone()), place.begin());
            let (mut all, mut left) = (Vec::new(), u64::try_from(length).unwrap());
            assert_eq!(answer.size_hint().exact(), Some(left));
            while let Some(frame) = answer.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE);
                all.extend_from_slice(&piece);
                left -= u64::try_from(piece.len()).unwrap();
                assert_eq!(answer.size_hint().exact(), Some(left));
            }
            assert!(all == bytes && answer.is_end_stream(), "{length}");
        }
    }
}
