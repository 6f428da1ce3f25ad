//! The cookie of a session: one half of what a browser has to show.

use http::{HeaderMap, HeaderValue, header};

use super::sessions::LONGEST;

/// How many cookies of the name are looked at: other ports of the host can set some.
const MOST: usize = 16;

/// What the cookie is called, and what browsers are told of it.
#[derive(Debug)]
pub(super) struct Cookie {
    name: String,
    attributes: &'static str,
}

impl Cookie {
    /// Of a listener at a port, which is in the name: other engines of the host have cookies of their own. Over TLS no other port, no
    /// other name of the domain and nobody on the way can set it (RFC 6265bis, section 4.1.3.2, "__Host-").
    pub(super) fn new(port: u16, tls: bool) -> Self {
        match tls {
            true => {
                let name = format!("__Host-ensync-console-{port}");
                Self { name, attributes: "Path=/; Secure; HttpOnly; SameSite=Strict" }
            }
            false => {
                Self { name: format!("ensync-console-{port}"), attributes: "Path=/console; HttpOnly; SameSite=Strict" }
            }
        }
    }

    /// Those that a request shows.
    pub(super) fn shown<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == self.name).map(|(_, value)| value).take(MOST)
    }

    /// Has the browser keep one, for as long as a session can last.
    pub(super) fn set(&self, value: &str) -> Option<HeaderValue> {
        self.header(value, LONGEST.as_secs())
    }

    /// Has the browser forget it.
    pub(super) fn forget(&self) -> Option<HeaderValue> {
        self.header("", 0)
    }

    fn header(&self, value: &str, age: u64) -> Option<HeaderValue> {
        let text = format!("{}={value}; Max-Age={age}; {}", self.name, self.attributes);
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_strict_and_of_one_port() {
        let (plain, tls) = (Cookie::new(50052, false), Cookie::new(443, true));
        let text = |header: Option<HeaderValue>| header.unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            text(plain.set("v")),
            "ensync-console-50052=v; Max-Age=43200; Path=/console; HttpOnly; SameSite=Strict"
        );
        assert_eq!(
            text(tls.set("v")),
            "__Host-ensync-console-443=v; Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Strict"
        );
        assert!(text(plain.forget()).starts_with("ensync-console-50052=; Max-Age=0;"));
    }

    #[test]
    fn every_one_of_its_name_is_looked_at_and_no_other() {
        let cookie = Cookie::new(1, false);
        let mut headers = HeaderMap::new();
        for value in ["a=b; ensync-console-1=one;ensync-console-12=x", "ensync-console-1=two; ensync-console-1", "b"] {
            headers.append(header::COOKIE, HeaderValue::from_static(value));
        }
        assert_eq!(cookie.shown(&headers).collect::<Vec<_>>(), ["one", "two"]);
        let many = vec!["ensync-console-1=x"; 100].join("; ");
        headers.append(header::COOKIE, HeaderValue::try_from(many).unwrap());
        assert_eq!(cookie.shown(&headers).count(), MOST);
    }
}
