//! Random documents, the same in every run.

use serde_json::{Map, Number, Value, json};

/// Where it stands.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        // "xorshift*": G. Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    pub fn value(&mut self, depth: u32) -> Value {
        match self.below(if depth < 4 { 13 } else { 10 }) {
            0 => Value::Null,
            1 => (self.below(2) == 1).into(),
            2 => i64::try_from(self.below(2_000)).map(|n| n - 1_000).unwrap().into(),
            3 => i64::try_from(self.below(1 << 53)).map(|n| if n % 2 == 0 { n } else { -n }).unwrap().into(),
            4 => Number::from_f64(f64::from_bits(self.next())).map_or(Value::Null, Value::Number),
            5 => json!((self.below(2_000_000) as f64 - 1e6) / 1_000.0),
            6 => self.next().into(),
            7..=9 => self.text().into(),
            10 => (0..self.below(5)).map(|_| self.value(depth + 1)).collect(),
            _ => self.members(depth).into(),
        }
    }

    /// An object.
    pub fn object(&mut self) -> Map<String, Value> {
        self.members(0)
    }

    fn members(&mut self, depth: u32) -> Map<String, Value> {
        (0..self.below(5)).map(|_| (self.name(), self.value(depth + 1))).collect()
    }

    fn name(&mut self) -> String {
        let known = ["", "a", "10", "9", "__proto__", "constructor", "toString", "$internal", "length", "data"];
        match self.below(3) {
            0 => known[self.below(known.len() as u64) as usize].to_owned(),
            _ => self.text(),
        }
    }

    fn text(&mut self) -> String {
        (0..self.below(12)).map(|_| self.character()).collect()
    }

    fn character(&mut self) -> char {
        let code = match self.below(8) {
            0 => self.below(0x20),
            1..=4 => 0x20 + self.below(0x60),
            5 => 0x80 + self.below(0x780),
            6 => self.below(0x1_0000),
            _ => 0x1_0000 + self.below(0x10_0000),
        };
        u32::try_from(code).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
    }
}
