//! Numbers and texts as bytes: little-endian, lengths first.

use bytes::Bytes;
use ensync_core::{AppId, EventName, Timestamp};

/// Bytes that are not what they should be. Whoever knows where they came from says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What reading gives.
pub(crate) type Read<T> = Result<T, Malformed>;

/// Appends to a buffer.
#[derive(Debug)]
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn array<const N: usize>(&mut self, value: &[u8; N]) {
        self.0.extend_from_slice(value);
    }

    /// Its length in 4 bytes, then the bytes. Nothing in a record comes near 4 GiB: a frame that large is refused as a whole.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn time(&mut self, value: Timestamp) {
        self.u64(value.as_millis());
    }

    /// 1 and the value, or 0.
    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// How many in 4 bytes, then each.
    pub(crate) fn list<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
        for value in values {
            write(self, value);
        }
    }
}

/// Reads from the front. What it gives of longer texts shares the buffer.
#[derive(Debug)]
pub(crate) struct Reader(pub(crate) Bytes);

impl Reader {
    pub(crate) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let array = *self.0.first_chunk::<N>().ok_or(Malformed)?;
        _ = self.0.split_to(N);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn bool(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn bytes(&mut self) -> Read<Bytes> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        if length > self.0.len() {
            return Err(Malformed);
        }
        Ok(self.0.split_to(length))
    }

    /// A text, read by whoever knows its rules.
    pub(crate) fn text<T, E>(&mut self, read: impl FnOnce(&str) -> Result<T, E>) -> Read<T> {
        let bytes = self.bytes()?;
        read(std::str::from_utf8(&bytes).map_err(|_| Malformed)?).map_err(|_| Malformed)
    }

    pub(crate) fn string(&mut self) -> Read<String> {
        self.text(|text| Ok::<_, Malformed>(text.to_owned()))
    }

    pub(crate) fn event(&mut self) -> Read<EventName> {
        self.text(EventName::parse_stored)
    }

    pub(crate) fn app(&mut self) -> Read<AppId> {
        Ok(AppId::from_bytes(self.array()?))
    }

    pub(crate) fn time(&mut self) -> Read<Timestamp> {
        self.u64().map(Timestamp::from_millis)
    }

    pub(crate) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        // The count is not believed: memory is taken for what is there.
        let count = self.u32()?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(read(self)?);
        }
        Ok(values)
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}
