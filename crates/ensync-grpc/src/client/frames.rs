//! HTTP/2 frames as they pass, for the one that HTTP/2 libraries do not tell of.

/// A goodbye of the other side: it takes no more streams on the connection (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoAway {
    /// Why: an error code of RFC 9113 section 7. 0 is none.
    pub(super) code: u32,
}

/// Follows frames from their first byte on. What is no HTTP/2 gives nonsense, and does no harm.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The head of the current frame, and of a GOAWAY the part that is fixed.
    head: [u8; HEAD + GOAWAY],
    /// How much of that there is.
    read: usize,
    /// How many bytes of the frame's payload are to come after it.
    skip: usize,
}

/// A frame's head: length (3), type, flags, stream (4).
const HEAD: usize = 9;
/// What every GOAWAY has after its head: last stream (4), error code (4).
const GOAWAY: usize = 8;
const TYPE_GOAWAY: u8 = 7;

impl Frames {
    /// Goes on with the next bytes, and tells the last goodbye that is complete with them.
    pub(super) fn next(&mut self, mut bytes: &[u8]) -> Option<GoAway> {
        let mut found = None;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = if self.read < HEAD { HEAD } else { HEAD + GOAWAY };
            let missing = self.head.get_mut(self.read..wanted).unwrap_or_default();
            let taken = missing.len().min(bytes.len());
            for (slot, byte) in missing.iter_mut().zip(bytes) {
                *slot = *byte;
            }
            self.read += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.read < wanted {
                continue;
            }
            let [a, b, c, kind, _, _, _, _, _, _, _, _, _, code @ ..] = self.head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if wanted == HEAD {
                if kind == TYPE_GOAWAY && length >= GOAWAY {
                    continue;
                }
                self.skip = length;
            } else {
                found = Some(GoAway { code: u32::from_be_bytes(code) });
                self.skip = length - GOAWAY;
            }
            self.read = 0;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn a_goodbye_is_found_however_the_bytes_are_cut() {
        let goaway = |code: u32, text: &str| {
            frame(7, &[&[0x7f, 0xff, 0xff, 0xff], &code.to_be_bytes()[..], text.as_bytes()].concat())
        };
        let bytes =
            [frame(4, &[0; 12]), goaway(0, ""), frame(0, &[7; 300]), goaway(11, "calm down"), frame(6, &[7; 8])]
                .concat();
        for size in [1, 2, 3, 7, 8, 9, 10, 17, 18, 100, bytes.len()] {
            let mut frames = Frames::default();
            let found: Vec<_> =
                bytes.chunks(size).filter_map(|part| frames.next(part)).map(|found| found.code).collect();
            match size == bytes.len() {
                true => assert_eq!(found, [11]),
                false => assert_eq!(found.last(), Some(&11), "cut by {size}"),
            }
            assert!(size > 20 || found == [0, 11], "cut by {size}: {found:?}");
        }
    }

    #[test]
    fn what_is_none_is_none() {
        let mut frames = Frames::default();
        assert_eq!(frames.next(&[frame(4, &[]), frame(7, &[0; 7]), frame(0, &[7; 50])].concat()), None);
        assert_eq!(Frames::default().next(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None);
    }
}
