//! Values of settings: what is written in a file, a variable or a flag, and what it is taken for.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ensync_sdk::core::Given;

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// In quotes, in a file.
    Text(String),
    /// Of a variable or a flag, where there are no quotes: it may be anything.
    Words(String),
    Integer(i128),
    Boolean(bool),
    List(Vec<Raw>),
    /// What no setting is: the name of its kind.
    Other(&'static str),
}

impl Raw {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Words(text) => Some(text),
            _ => None,
        }
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Words(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// For a message: what was written, cut short.
    pub(crate) fn shown(&self) -> String {
        match self {
            // An address is no secret, and what is wrong with it may be its last letter.
            Self::Text(text) | Self::Words(text) if is_like_an_address(text) => format!("{text:?}"),
            Self::Text(text) | Self::Words(text) => Given(text).to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(yes) => yes.to_string(),
            Self::List(items) => {
                let mut shown: Vec<_> = items.iter().take(3).map(Self::shown).collect();
                if items.len() > shown.len() {
                    shown.push("…".into());
                }
                format!("[{}]", shown.join(", "))
            }
            Self::Other(kind) => format!("a {kind}"),
        }
    }
}

/// Whether a text is made of what addresses and ports are made of, and no longer than one is.
fn is_like_an_address(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_host =
        host.contains(['.', ':']) && host.bytes().all(|byte| byte.is_ascii_hexdigit() || b".:[]".contains(&byte));
    text.len() <= 54 && is_host && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a setting can be.
pub(crate) trait Setting: Sized {
    /// What may be written, for whoever wrote something else.
    const ALLOWED: &'static str;
    /// Reads a value; `None` if it is not allowed.
    fn read(raw: &Raw) -> Option<Self>;
    /// The value as a file would have it; `None` if there is none.
    fn show(&self) -> Option<String>;
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// How long an event is of use: for ever, if it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ttl(pub(crate) Option<Duration>);

/// An address, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MaybeAddress(pub(crate) Option<SocketAddr>);

/// Events per second, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublishRate(pub(crate) Option<NonZeroU32>);

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What is logged, in the language of `RUST_LOG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(pub(crate) String);

impl Setting for bool {
    const ALLOWED: &'static str = "true or false";
    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Boolean(yes) => Some(*yes),
            Raw::Words(text) => text.parse().ok(),
            _ => None,
        }
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for Option<bool> {
    const ALLOWED: &'static str = bool::ALLOWED;
    fn read(raw: &Raw) -> Option<Self> {
        bool::read(raw).map(Some)
    }
    fn show(&self) -> Option<String> {
        self.as_ref().and_then(bool::show)
    }
}

impl Setting for usize {
    const ALLOWED: &'static str = "a whole number, 0 or more";
    fn read(raw: &Raw) -> Option<Self> {
        raw.integer()?.try_into().ok()
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for NonZeroU32 {
    const ALLOWED: &'static str = "a whole number from 1 to 4294967295";
    fn read(raw: &Raw) -> Option<Self> {
        u32::try_from(raw.integer()?).ok()?.try_into().ok()
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for Size {
    const ALLOWED: &'static str =
        "a size with its unit in quotes, such as \"512KiB\", \"64MiB\" or \"16GiB\" (\"64MB\" is 64,000,000 bytes)";
    fn read(raw: &Raw) -> Option<Self> {
        let text = raw.text()?;
        // Without a unit it could be meant in any.
        text.ends_with(['b', 'B']).then_some(())?;
        text.parse::<ByteSize>().ok().map(|size| Self(size.as_u64()))
    }
    fn show(&self) -> Option<String> {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = units.iter().find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift);
        Some(match whole {
            Some((shift, unit)) => format!("\"{}{unit}\"", self.0 >> shift),
            None => format!("\"{}B\"", self.0),
        })
    }
}

impl Setting for Duration {
    const ALLOWED: &'static str =
        "a time with its unit in quotes, such as \"500ms\", \"30s\", \"10m\", \"12h\" or \"7d\"";
    fn read(raw: &Raw) -> Option<Self> {
        humantime::parse_duration(raw.text()?).ok()
    }
    fn show(&self) -> Option<String> {
        Some(format!("\"{}\"", humantime::format_duration(*self)))
    }
}

impl Setting for Ttl {
    const ALLOWED: &'static str = "\"never\", or a time with its unit in quotes, such as \"12h\" or \"7d\"";
    fn read(raw: &Raw) -> Option<Self> {
        if raw.text()? == "never" { Some(Self(None)) } else { Duration::read(raw).map(|ttl| Self(Some(ttl))) }
    }
    fn show(&self) -> Option<String> {
        self.0.map_or_else(|| Some("\"never\"".into()), |ttl| ttl.show())
    }
}

impl Setting for SocketAddr {
    const ALLOWED: &'static str = "an IP address and a port (up to 65535) in quotes, such as \"127.0.0.1:50051\", \"0.0.0.0:443\" or \"[::1]:50051\"";
    fn read(raw: &Raw) -> Option<Self> {
        raw.text()?.parse().ok()
    }
    fn show(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

impl Setting for MaybeAddress {
    const ALLOWED: &'static str =
        "\"off\", or an IP address and a port (up to 65535) in quotes, such as \"127.0.0.1:9464\"";
    fn read(raw: &Raw) -> Option<Self> {
        if raw.text()? == "off" { Some(Self(None)) } else { SocketAddr::read(raw).map(|address| Self(Some(address))) }
    }
    fn show(&self) -> Option<String> {
        self.0.map_or_else(|| Some("\"off\"".into()), |address| address.show())
    }
}

impl Setting for PublishRate {
    const ALLOWED: &'static str = "\"off\", or a whole number from 1 to 4294967295";
    fn read(raw: &Raw) -> Option<Self> {
        if raw.text() == Some("off") { Some(Self(None)) } else { NonZeroU32::read(raw).map(|rate| Self(Some(rate))) }
    }
    fn show(&self) -> Option<String> {
        self.0.map_or_else(|| Some("\"off\"".into()), |rate| rate.show())
    }
}

impl Setting for Vec<SocketAddr> {
    const ALLOWED: &'static str = "a list of IP addresses with ports (up to 65535), such as [\"127.0.0.1:50051\", \"[::1]:50051\"]; in a variable, \
                                   with commas between them";
    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::List(items) => items.iter().map(SocketAddr::read).collect(),
            Raw::Words(text) => {
                text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect()
            }
            _ => None,
        }
    }
    fn show(&self) -> Option<String> {
        let items: Vec<_> = self.iter().filter_map(Setting::show).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl Setting for Vec<String> {
    const ALLOWED: &'static str =
        "a list of names, such as [\"engine.example\"]; in a variable, with commas between them";
    fn read(raw: &Raw) -> Option<Self> {
        let name = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            (!text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
        };
        match raw {
            Raw::List(items) => items.iter().map(|item| name(item.text()?)).collect(),
            Raw::Words(text) => text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(name).collect(),
            _ => None,
        }
    }
    fn show(&self) -> Option<String> {
        let items: Vec<_> = self.iter().map(|name| quoted(name)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl Setting for Option<PathBuf> {
    const ALLOWED: &'static str = "a path in quotes";
    fn read(raw: &Raw) -> Option<Self> {
        let text = raw.text()?;
        (!text.is_empty()).then(|| Some(text.into()))
    }
    fn show(&self) -> Option<String> {
        self.as_ref().map(|path| quoted(&path.to_string_lossy()))
    }
}

impl Setting for LogFormat {
    const ALLOWED: &'static str = "\"text\" or \"json\"";
    fn read(raw: &Raw) -> Option<Self> {
        match raw.text()? {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Text => "\"text\"".into(),
            Self::Json => "\"json\"".into(),
        })
    }
}

impl Setting for LogLevel {
    const ALLOWED: &'static str =
        "\"error\", \"warn\", \"info\" or \"debug\", or the like per module: \"info,ensync_ws=debug\"";
    fn read(raw: &Raw) -> Option<Self> {
        let text = raw.text().filter(|text| !text.trim().is_empty())?;
        let known = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
        let level = |directive: &str| known(directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim());
        let valid = text.split(',').all(level) && text.parse::<tracing_subscriber::EnvFilter>().is_ok();
        valid.then(|| Self(text.to_owned()))
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: Setting>(text: &str) -> Option<T> {
        T::read(&Raw::Text(text.into()))
    }

    #[test]
    fn sizes_and_times_need_their_units() {
        assert_eq!(text::<Size>("64MiB"), Some(Size(64 << 20)));
        assert_eq!(text::<Size>("64 MB"), Some(Size(64_000_000)));
        assert_eq!(text::<Size>("10B"), Some(Size(10)));
        for wrong in ["64", "64M", "MiB", "-1MiB", "64 parsecs", "", "7d"] {
            assert_eq!(text::<Size>(wrong), None, "{wrong}");
        }
        assert_eq!(Size::read(&Raw::Integer(64)), None);
        assert_eq!(text::<Duration>("1h 30m"), Some(Duration::from_secs(5_400)));
        for wrong in ["5", "5 parsecs", "", "-1s", "64MiB"] {
            assert_eq!(text::<Duration>(wrong), None, "{wrong}");
        }
        assert_eq!(Duration::read(&Raw::Integer(30)), None);
        assert_eq!((text::<Ttl>("never"), text::<Ttl>("soon")), (Some(Ttl(None)), None));
    }

    #[test]
    fn a_variable_holds_what_a_file_would() {
        let words = |text: &str| Raw::Words(text.into());
        assert_eq!(usize::read(&words("5")), Some(5));
        assert_eq!(usize::read(&Raw::Text("5".into())), None, "in a file a number has no quotes");
        assert_eq!(bool::read(&words("true")), Some(true));
        assert_eq!(bool::read(&words("yes")), None);
        let addresses = Vec::<SocketAddr>::read(&words("127.0.0.1:1, [::1]:2"));
        assert_eq!(addresses.map(|list| list.len()), Some(2));
        assert_eq!(Vec::<SocketAddr>::read(&words("localhost:1")), None);
        assert_eq!(Vec::<String>::read(&words("a.example, b")), Some(vec!["a.example".into(), "b".into()]));
        assert_eq!(Vec::<String>::read(&words("http://a")), None);
        assert_eq!(NonZeroU32::read(&words("0")), None);
        assert_eq!(NonZeroU32::read(&Raw::Integer(i128::MAX)), None);
    }

    #[test]
    fn what_is_shown_reads_back() {
        fn check<T: Setting + PartialEq + std::fmt::Debug>(value: T) {
            let shown = value.show().unwrap();
            assert_eq!(T::read(&Raw::Text(shown.trim_matches('"').into())), Some(value), "{shown}");
        }
        [0, 1, 1_000, 1 << 10, 3 << 20, 5 << 30].into_iter().for_each(|size| check(Size(size)));
        check(Duration::from_millis(90_500));
        check(Ttl(None));
        check(MaybeAddress(None));
        check(MaybeAddress(Some("[::1]:5".parse().unwrap())));
        check(LogFormat::Json);
        check(LogLevel("info,ensync_ws=debug".into()));
        assert_eq!(text::<LogLevel>("loud"), None);
        assert_eq!(quoted("a\"\\\n"), r#""a\"\\\u000A""#);
    }
}
