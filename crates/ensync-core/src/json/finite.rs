//! Numbers that JSON has not: serde_json writes them as `null`.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

/// Where in a value the first number is that is infinite or undefined, such as `items[2].price`; `None` if there is none.
pub(crate) fn not_finite(value: &(impl Serialize + ?Sized)) -> Option<String> {
    match value.serialize(Finite { at: 0 }) {
        Err(Stopped::At(path)) => Some(path.trim_start_matches('.').to_owned()),
        // Whatever else is wrong with it, whoever writes it says.
        Ok(()) | Err(Stopped::Other) => None,
    }
}

/// Why the walk has ended.
#[derive(Debug)]
enum Stopped {
    At(String),
    Other,
}

impl Stopped {
    fn inside(self, step: impl FnOnce() -> String) -> Self {
        match self {
            Self::At(path) => Self::At(step() + &path),
            Self::Other => Self::Other,
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the walk has ended")
    }
}

impl std::error::Error for Stopped {}

impl ser::Error for Stopped {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }
}

/// Writes nothing.
struct Finite {
    /// Of a list: how many items there were.
    at: usize,
}

type Walked = Result<(), Stopped>;

/// Methods that have nothing to look at.
macro_rules! nothing {
    ($($method:ident($($given:ty),*);)*) => {
        $(fn $method(self, $(_: $given),*) -> Walked {
            Ok(())
        })*
    };
}

impl Serializer for Finite {
    type Ok = ();
    type Error = Stopped;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    nothing! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_f32(self, number: f32) -> Walked {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Walked {
        if number.is_finite() { Ok(()) } else { Err(Stopped::At(String::new())) }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Walked {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Walked {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Walked {
        value.serialize(self).map_err(|stopped| stopped.inside(|| format!(".{variant}")))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Stopped> {
        Ok(Self { at: 0 })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Stopped> {
        Ok(Self { at: 0 })
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Stopped> {
        Ok(Self { at: 0 })
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Stopped> {
        Ok(Self { at: 0 })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Stopped> {
        Ok(Self { at: 0 })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Stopped> {
        Ok(Self { at: 0 })
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Stopped> {
        Ok(Self { at: 0 })
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Walked {
        Ok(())
    }
}

impl Finite {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Walked {
        let at = self.at;
        self.at += 1;
        value.serialize(Self { at: 0 }).map_err(|stopped| stopped.inside(|| format!("[{at}]")))
    }

    fn field<T: Serialize + ?Sized>(name: &str, value: &T) -> Walked {
        value.serialize(Self { at: 0 }).map_err(|stopped| stopped.inside(|| format!(".{name}")))
    }
}

macro_rules! items {
    ($($of:ident $method:ident;)*) => {
        $(impl ser::$of for Finite {
            type Ok = ();
            type Error = Stopped;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Walked {
                self.item(value)
            }
            fn end(self) -> Walked {
                Ok(())
            }
        })*
    };
}

items! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

macro_rules! fields {
    ($($of:ident;)*) => {
        $(impl ser::$of for Finite {
            type Ok = ();
            type Error = Stopped;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Walked {
                Self::field(name, value)
            }
            fn end(self) -> Walked {
                Ok(())
            }
        })*
    };
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for Finite {
    type Ok = ();
    type Error = Stopped;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Walked {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Walked {
        self.item(value)
    }

    fn end(self) -> Walked {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_place_of_a_number_that_json_has_not_is_told() {
        #[derive(Serialize)]
        struct Order {
            items: Vec<Item>,
            more: Option<BTreeMap<&'static str, f32>>,
        }
        #[derive(Serialize)]
        struct Item {
            price: f64,
        }
        let of =
            |prices: &[f64], more| Order { items: prices.iter().map(|price| Item { price: *price }).collect(), more };
        assert_eq!(not_finite(&of(&[1.0, f64::MAX, f64::MIN_POSITIVE], None)), None);
        assert_eq!(not_finite(&of(&[1.0, f64::NAN], None)).as_deref(), Some("items[1].price"));
        let more = BTreeMap::from([("a", 1.0), ("b", f32::NEG_INFINITY)]);
        assert_eq!(not_finite(&of(&[], Some(more))).as_deref(), Some("more[1]"));
        assert_eq!(not_finite(&f64::INFINITY).as_deref(), Some(""));
        assert_eq!(not_finite(&("text", [0.5], None::<f64>, serde_json::json!({"a": [1.5]}))), None);
    }
}
