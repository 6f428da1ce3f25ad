//! Messages as bytes: [`format`](crate::log::format::jetstream) says what each part is for.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::{Encoded, Position};

pub(super) const HEAD: usize = 68;
const MAGIC: &[u8; 4] = b"ENSJ";
const VERSION: u8 = 1;
const CRC: usize = 64;
const OPENING: u8 = 1;
const RECORDS: u8 = 2;
const DROPPED: u8 = 3;
/// How many records begin in a message at most: what the low bits of a position can say.
const MOST: u32 = 1 << 16;

/// Random bytes that name a log, or a run.
pub(super) type Id = [u8; 16];

/// The position of a record: the sequence of its message, and which of it.
pub(super) fn position(sequence: u64, index: u32) -> Position {
    Position::new(sequence.saturating_mul(u64::from(MOST)).saturating_add(u64::from(index)))
}

/// The parts of a position.
pub(super) fn split(at: Position) -> (u64, u32) {
    let index = u32::try_from(at.as_u64() % u64::from(MOST)).unwrap_or(0);
    (at.as_u64() / u64::from(MOST), index)
}

/// Why bytes are no message of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// They never were one of this log's.
    Foreign,
    /// Of a later version.
    Later(u8),
    /// They were one.
    Damaged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Opening(Opening),
    Records(Records),
    Dropped,
}

/// From here on a run owns the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) epoch: u64,
    pub(super) run: Id,
    pub(super) attempt: u64,
}

impl Opening {
    pub(super) fn encode(&self, id: &Id) -> Bytes {
        let head = Head { kind: OPENING, term: self.epoch, batch: self.attempt, ..Head::default() };
        let mut bytes = BytesMut::zeroed(HEAD);
        bytes.put_slice(&self.run);
        head.write(&mut bytes, id);
        bytes.freeze()
    }
}

/// What takes the place of a part that is dropped.
pub(super) fn dropped(id: &Id, term: u64) -> Bytes {
    let mut bytes = BytesMut::zeroed(HEAD);
    Head { kind: DROPPED, term, ..Head::default() }.write(&mut bytes, id);
    bytes.freeze()
}

/// A message, or part of one, of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) head: Head,
    body: Bytes,
    /// Where each record that begins here lies in the body; the last may end in a later message.
    places: Vec<(usize, usize)>,
}

/// The beginning of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    kind: u8,
    pub(super) term: u64,
    pub(super) batch: u64,
    pub(super) part: u32,
    pub(super) parts: u32,
    pub(super) before: u64,
    carry: u32,
    records: u32,
}

/// A record, as far as a message has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Whole(Bytes),
    /// Its beginning, and how many bytes follow in the messages behind.
    Cut(Bytes, usize),
}

impl Head {
    /// Writes it over the first bytes of a message, with the sum of all.
    fn write(&self, message: &mut BytesMut, id: &Id) {
        let mut head = Vec::with_capacity(HEAD);
        head.put_slice(MAGIC);
        head.put_slice(&[VERSION, self.kind, 0, 0]);
        head.put_slice(id);
        [self.term, self.batch].iter().for_each(|number| head.put_u64_le(*number));
        [self.part, self.parts].iter().for_each(|number| head.put_u32_le(*number));
        head.put_u64_le(self.before);
        [self.carry, self.records].iter().for_each(|number| head.put_u32_le(*number));
        let sum = crc32c::crc32c_append(crc32c::crc32c(&head), message.get(HEAD..).unwrap_or_default());
        head.put_u32_le(sum);
        if let Some(place) = message.get_mut(..HEAD) {
            place.copy_from_slice(&head);
        }
    }
}

impl Message {
    pub(super) fn decode(bytes: &Bytes, id: &Id) -> Result<Self, Bad> {
        let Some((head, body)) = bytes.split_at_checked(HEAD) else { return Err(Bad::Foreign) };
        let at32 = |at: usize| head.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
        let at64 = |at: usize| head.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b));
        if !head.starts_with(MAGIC) || head.get(8..24) != Some(&id[..]) {
            return Err(Bad::Foreign);
        }
        let (version, kind) = (head.get(4).copied().unwrap_or(0), head.get(5).copied().unwrap_or(0));
        if version != VERSION {
            return Err(Bad::Later(version));
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(head.get(..CRC).unwrap_or_default()), body);
        if sum != at32(CRC) {
            return Err(Bad::Damaged);
        }
        let head = Head {
            kind,
            term: at64(24),
            batch: at64(32),
            part: at32(40),
            parts: at32(44),
            before: at64(48),
            carry: at32(56),
            records: at32(60),
        };
        let body = bytes.slice(HEAD..);
        match kind {
            OPENING => {
                let run = *body.first_chunk().ok_or(Bad::Damaged)?;
                Ok(Self::Opening(Opening { epoch: head.term, run, attempt: head.batch }))
            }
            RECORDS => Records::read(head, body).map(Self::Records).ok_or(Bad::Damaged),
            DROPPED => Ok(Self::Dropped),
            _ => Err(Bad::Later(version)),
        }
    }
}

impl Records {
    fn read(head: Head, body: Bytes) -> Option<Self> {
        let mut at = usize::try_from(head.carry).ok()?;
        // Each has a length of 4 bytes: no more memory than the message is long.
        let most = body.len() / 4;
        let mut places = Vec::with_capacity((head.records as usize).min(most));
        for index in 1..=head.records {
            let length = u32::from_le_bytes(*body.get(at..)?.first_chunk()?) as usize;
            let (from, to) = (at + 4, at.checked_add(4)?.checked_add(length)?);
            if to > body.len() && index < head.records {
                return None;
            }
            places.push((from, to));
            at = to;
        }
        let ends = at == body.len() || at > body.len() && head.records > 0;
        (ends && head.part < head.parts && head.records <= MOST).then_some(Self { head, body, places })
    }

    /// How many records begin in it.
    pub(super) fn count(&self) -> u32 {
        self.head.records
    }

    pub(super) fn record(&self, index: u32) -> Option<Found> {
        let (from, to) = *self.places.get(index as usize)?;
        let end = to.min(self.body.len());
        let bytes = self.body.slice(from..end);
        Some(if end == to { Found::Whole(bytes) } else { Found::Cut(bytes, to - end) })
    }

    /// What belongs to the record that began in a message before.
    pub(super) fn carried(&self) -> Bytes {
        self.body.slice(..(self.head.carry as usize).min(self.body.len()))
    }

    /// Whether it has the next message of the same batch behind it.
    pub(super) fn is_before(&self, next: &Self) -> bool {
        let (a, b) = (&self.head, &next.head);
        (a.term, a.batch, a.parts) == (b.term, b.batch, b.parts) && a.part.checked_add(1) == Some(b.part)
    }

    /// What it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.body.len() + HEAD + self.places.len() * size_of::<(usize, usize)>()
    }
}

/// A message of a batch that is not sent yet: what does not depend on when that is.
#[derive(Debug)]
pub(super) struct Piece {
    /// With space for the head.
    bytes: BytesMut,
    carry: u32,
    records: u32,
}

impl Piece {
    fn new() -> Self {
        Self { bytes: BytesMut::zeroed(HEAD), carry: 0, records: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// As it is sent: which message of which batch it is, under which term, and where in its part of the log.
    pub(super) fn message(&self, id: &Id, (term, batch, before): (u64, u64, u64), (part, parts): (u32, u32)) -> Bytes {
        let head = Head { kind: RECORDS, term, batch, part, parts, before, carry: self.carry, records: self.records };
        let mut bytes = self.bytes.clone();
        head.write(&mut bytes, id);
        bytes.freeze()
    }
}

/// A batch as messages: of about `wanted` bytes each, and of no more than `most`. With where each record begins: in which of them, as which.
pub(super) fn pieces(batch: &[Encoded], (wanted, most): (usize, usize)) -> (Vec<Piece>, Vec<(u64, u32)>) {
    let (mut done, mut places, mut now) = (Vec::new(), Vec::with_capacity(batch.len()), Piece::new());
    for record in batch {
        let whole = record.len().saturating_add(4);
        if now.len() > HEAD && (now.len() + whole > wanted || now.records == MOST) {
            done.push(std::mem::replace(&mut now, Piece::new()));
        }
        places.push((done.len() as u64, now.records));
        now.records += 1;
        now.bytes.put_u32_le(u32::try_from(record.len()).unwrap_or(u32::MAX));
        for part in record.parts() {
            let mut rest: &[u8] = part;
            while !rest.is_empty() {
                if now.len() >= most {
                    done.push(std::mem::replace(&mut now, Piece::new()));
                }
                let fits = rest.len().min(most - now.len());
                let (these, after) = rest.split_at(fits);
                now.bytes.put_slice(these);
                if now.records == 0 {
                    now.carry += u32::try_from(these.len()).unwrap_or(u32::MAX);
                }
                rest = after;
            }
        }
    }
    if now.len() > HEAD {
        done.push(now);
    }
    (done, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Id = [7; 16];

    fn decoded(bytes: &Bytes) -> Records {
        match Message::decode(bytes, &ID).unwrap() {
            Message::Records(records) => records,
            other => panic!("{other:?}"),
        }
    }

    /// Every record of a batch, from its messages.
    fn assembled(messages: &[Records], places: &[(u64, u32)]) -> Vec<Bytes> {
        let whole = |(piece, index): &(u64, u32)| {
            let piece = *piece as usize;
            let mut rest = messages[piece + 1..].iter();
            match messages[piece].record(*index).unwrap() {
                Found::Whole(bytes) => bytes,
                Found::Cut(bytes, mut missing) => {
                    let mut all = BytesMut::from(&bytes[..]);
                    while missing > 0 {
                        let carried = rest.next().unwrap().carried();
                        missing -= carried.len();
                        all.put_slice(&carried);
                    }
                    all.freeze()
                }
            }
        };
        places.iter().map(whole).collect()
    }

    #[test]
    fn batches_of_any_sizes_are_read_back_from_their_messages() {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..300 {
            let most = random.usize(HEAD + 8..600);
            let wanted = random.usize(HEAD + 8..=most);
            let batch: Vec<_> = (0..random.usize(1..20))
                .map(|seq| {
                    let most = if random.bool() { 40 } else { 2_000 };
                    let (head, payload) = (random.usize(..20), random.usize(..most));
                    Encoded::new(vec![seq as u8; head], vec![seq as u8 + 100; payload], true)
                })
                .collect();
            let (pieces, places) = pieces(&batch, (wanted, most));
            let parts = pieces.len() as u32;
            let messages: Vec<_> = (0..)
                .zip(&pieces)
                .map(|(part, piece)| {
                    let bytes = piece.message(&ID, (5, 9, 0), (part, parts));
                    assert!(bytes.len() <= most, "round {round}");
                    decoded(&bytes)
                })
                .collect();
            assert!(messages.windows(2).all(|two| two[0].is_before(&two[1])));
            let expected: Vec<_> = batch.iter().map(Encoded::to_bytes).collect();
            assert_eq!(assembled(&messages, &places), expected, "round {round}");
            assert_eq!(messages.iter().map(Records::count).sum::<u32>() as usize, batch.len());
        }
    }

    #[test]
    fn a_batch_that_fits_is_one_message() {
        let batch: Vec<_> = (0..100).map(|_| Encoded::new(vec![1; 10], vec![2; 90], true)).collect();
        assert_eq!(pieces(&batch, (256 << 10, 1 << 20)).0.len(), 1);
        let large = [Encoded::new(vec![1; 10], vec![2; 700 << 10], true)];
        assert_eq!(pieces(&large, (256 << 10, 1 << 20)).0.len(), 1, "a record is not cut while it fits");
    }

    #[test]
    fn whatever_changed_is_no_message() {
        let (pieces, _) = pieces(&[Encoded::new("head", "payload", true)], (1_000, 1_000));
        let bytes = pieces[0].message(&ID, (1, 2, 3), (0, 1));
        decoded(&bytes);
        for at in 0..bytes.len() {
            let mut other = bytes.to_vec();
            other[at] ^= 1;
            let bad = Message::decode(&Bytes::from(other), &ID).unwrap_err();
            let expected = match at {
                0..4 | 8..24 => Bad::Foreign,
                4 => Bad::Later(0),
                _ => Bad::Damaged,
            };
            assert_eq!(bad, expected, "byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes.slice(..length), &ID).is_err());
        }
    }

    /// With the right sum, for whoever may publish there can make one.
    #[test]
    fn forged_numbers_take_no_memory_and_end_well() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes = BytesMut::zeroed(HEAD);
            let length = random.usize(..64);
            bytes.extend((0..length).map(|_| if random.bool() { 0 } else { random.u8(..) }));
            let mut number = || [0, 1, 2, u32::MAX, 1 << 16][random.usize(..5)];
            let (part, parts, carry, records) = (number(), number(), number(), number());
            Head { kind: RECORDS, part, parts, carry, records, ..Head::default() }.write(&mut bytes, &ID);
            if let Ok(Message::Records(records)) = Message::decode(&bytes.freeze(), &ID) {
                assert!(records.places.len() <= 16);
                (0..records.count().min(99)).for_each(|index| drop(records.record(index)));
                drop(records.carried());
            }
        }
    }

    #[test]
    fn positions_say_where_and_forged_ones_are_only_numbers() {
        assert_eq!(split(position(77, 65_535)), (77, 65_535));
        assert_eq!(split(Position::START), (0, 0));
        assert_eq!(position(u64::MAX, 9), Position::new(u64::MAX));
        assert!(position(8, 0) > position(7, 65_535));
    }
}
