//! Protocol Buffers, written and read without a schema.

/// A message in the making.
#[derive(Clone, Debug, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn text(mut self, number: u32, text: &str) -> Self {
        varint(&mut self.0, u64::from(number) << 3 | 2);
        varint(&mut self.0, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub fn number(mut self, number: u32, value: u64) -> Self {
        varint(&mut self.0, u64::from(number) << 3);
        varint(&mut self.0, value);
        self
    }

    /// With gRPC's prefix: not compressed, and the length.
    pub fn framed(&self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap();
        [&[0], &length.to_be_bytes()[..], &self.0].concat()
    }
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The fields of an answer: its numbers, and its texts.
#[derive(Debug, Default, PartialEq)]
pub struct Fields {
    pub numbers: Vec<(u32, u64)>,
    pub texts: Vec<(u32, String)>,
}

impl Fields {
    pub fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Self::default();
        while !bytes.is_empty() {
            let tag = take_varint(&mut bytes);
            let number = u32::try_from(tag >> 3).unwrap();
            match tag & 7 {
                0 => {
                    let value = take_varint(&mut bytes);
                    fields.numbers.push((number, value));
                }
                2 => {
                    let length = usize::try_from(take_varint(&mut bytes)).unwrap();
                    let (text, rest) = bytes.split_at(length);
                    fields.texts.push((number, String::from_utf8_lossy(text).into_owned()));
                    bytes = rest;
                }
                other => panic!("wire type {other}"),
            }
        }
        fields
    }

    pub fn text(&self, number: u32) -> &str {
        self.texts.iter().find(|(n, _)| *n == number).map_or("", |(_, text)| text)
    }

    pub fn number(&self, number: u32) -> u64 {
        self.numbers.iter().find(|(n, _)| *n == number).map_or(0, |(_, value)| *value)
    }
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
