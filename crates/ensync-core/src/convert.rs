//! The ways between text and the values that are read from it: the same for every type, so that whatever holds a text will do.

/// `FromStr`, and `TryFrom` of everything that holds a text and of a reference to the value itself, by `parse`. A `String` that was handed
/// over is wiped with `secret`, and given to `parse` as it is with `owned`.
macro_rules! parsed {
    ($name:ident) => {
        $crate::convert::parsed!(@common $name, text, &text);
    };
    (secret $name:ident) => {
        $crate::convert::parsed!(@common $name, text, &::zeroize::Zeroizing::<String>::new(text));
    };
    (owned $name:ident) => {
        $crate::convert::parsed!(@common $name, text, text);
    };
    (@common $name:ident, $text:ident, $given:expr) => {
        impl ::std::str::FromStr for $name {
            type Err = $crate::Error;
            fn from_str(text: &str) -> $crate::Result<Self> {
                Self::parse(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $crate::Error;
            fn try_from(text: &str) -> $crate::Result<Self> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::Error;
            fn try_from($text: String) -> $crate::Result<Self> {
                Self::parse($given)
            }
        }

        impl TryFrom<&String> for $name {
            type Error = $crate::Error;
            fn try_from(text: &String) -> $crate::Result<Self> {
                Self::parse(text.as_str())
            }
        }

        impl TryFrom<::std::borrow::Cow<'_, str>> for $name {
            type Error = $crate::Error;
            fn try_from(text: ::std::borrow::Cow<'_, str>) -> $crate::Result<Self> {
                match text {
                    ::std::borrow::Cow::Borrowed(text) => Self::parse(text),
                    ::std::borrow::Cow::Owned(text) => Self::try_from(text),
                }
            }
        }

        impl TryFrom<&$name> for $name {
            type Error = $crate::Error;
            fn try_from(value: &$name) -> $crate::Result<Self> {
                Ok(value.clone())
            }
        }
    };
}

/// The same, and `Deserialize` of a text.
macro_rules! from_text {
    (secret $name:ident, $expecting:expr) => {
        $crate::convert::parsed!(secret $name);
        $crate::convert::from_text!(@deserialize $name, $expecting);
    };
    (@deserialize $name:ident, $expecting:expr) => {
        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                /// Errors of serde's own repeat what was found, which might be a secret; `parse` says what it found.
                struct Visitor;
                impl ::serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: ::serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text).map_err(E::custom)
                    }
                    fn visit_string<E: ::serde::de::Error>(self, text: String) -> Result<$name, E> {
                        $name::try_from(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
    ($name:ident, $expecting:expr) => {
        $crate::convert::parsed!($name);
        $crate::convert::from_text!(@deserialize $name, $expecting);
    };
}

/// `Display`, `Serialize`, and the same text compared, for a value that is a text (it has `as_str`).
macro_rules! as_text {
    ($name:ident) => {
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, text: &str) -> bool {
                self.as_str() == text
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, text: &&str) -> bool {
                self.as_str() == *text
            }
        }

        impl PartialEq<String> for $name {
            fn eq(&self, text: &String) -> bool {
                self.as_str() == text
            }
        }

        impl PartialEq<$name> for str {
            fn eq(&self, value: &$name) -> bool {
                self == value.as_str()
            }
        }

        impl PartialEq<$name> for &str {
            fn eq(&self, value: &$name) -> bool {
                *self == value.as_str()
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

/// `Serialize` by `Display`.
macro_rules! serialize_display {
    ($name:ident) => {
        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

pub(crate) use {as_text, from_text, parsed, serialize_display};
