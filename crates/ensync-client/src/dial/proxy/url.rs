//! A proxy's address, and what it is told of who asks.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ensync_core::{Endpoint, Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// An HTTP proxy. Its password is in no `Display` and no `Debug`.
#[derive(Clone)]
pub(in crate::dial) struct Proxy {
    pub(super) tls: bool,
    /// The proxy's own address, read by the rules of any address.
    at: Endpoint,
    /// The value of the header Proxy-Authorization (RFC 7617).
    pub(super) authorization: Option<Zeroizing<String>>,
}

impl Proxy {
    /// Reads `[http://|https://][user[:password]@]host[:port]`. As curl has it: no scheme is `http://`, whose port is 1080 unless
    /// given; that of `https://` is 443. User and password are percent-decoded.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`] says what is wrong, and never repeats user or password.
    pub(in crate::dial) fn parse(url: &str) -> Result<Self> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            other => {
                let shown: String = other.chars().take(16).collect();
                return Err(invalid(format!(
                    "scheme {shown:?} is not served; use http:// or https://, to a proxy that knows CONNECT"
                )));
            }
        };
        // A password may hold '/', where it was not encoded, so the last '@' counts.
        let (user_info, address) = match rest.rsplit_once('@') {
            Some((user_info, address)) => (Some(user_info), address),
            None => (None, rest),
        };
        let authority = address.strip_suffix('/').unwrap_or(address);
        if authority.contains(['/', '?', '#']) {
            return Err(invalid("a proxy has no path; leave out everything after host and port".to_owned()));
        }
        let given = if tls { format!("wss://{authority}") } else { format!("ws://{authority}") };
        let at = Endpoint::parse(&given).map_err(|error| invalid(error.to_string()))?;
        // Which port was given, and which is a default of the scheme that was borrowed, only the text tells.
        let at = if has_port(authority) || tls { at } else { Endpoint::parse(&format!("ws://{authority}:1080"))? };
        let authorization = user_info.map(basic).transpose()?;
        Ok(Self { tls, at, authorization })
    }

    pub(super) fn host(&self) -> String {
        self.at.host()
    }

    pub(super) fn port(&self) -> u16 {
        self.at.port()
    }
}

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'))
}

/// RFC 7617 section 2.
fn basic(user_info: &str) -> Result<Zeroizing<String>> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let mut text = Zeroizing::new(Vec::new());
    text.extend(percent_decode_str(user));
    if text.contains(&b':') {
        return Err(invalid("the user name holds ':', which basic authentication cannot carry".to_owned()));
    }
    text.push(b':');
    text.extend(percent_decode_str(password));
    Ok(Zeroizing::new(format!("Basic {}", Zeroizing::new(BASE64_STANDARD.encode(&*text)).as_str())))
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidUrl, format!("proxy: {why}"))
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.at.authority())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self}{})", if self.authorization.is_some() { ", as a user" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        for (given, shown, authorization) in [
            ("http://p:3128", "http://p:3128", None),
            ("p:3128", "http://p:3128", None),
            ("p", "http://p:1080", None),
            ("http://p/", "http://p:1080", None),
            ("HTTPS://p", "https://p:443", None),
            ("https://p:8443", "https://p:8443", None),
            ("http://[2001:db8::1]", "http://[2001:db8::1]:1080", None),
            ("http://[2001:db8::1]:8", "http://[2001:db8::1]:8", None),
            ("http://user:pass@p:1", "http://p:1", Some("Basic dXNlcjpwYXNz")),
            ("http://user@p:1", "http://p:1", Some("Basic dXNlcjo=")),
            ("user:p%40ss%2F@p:1", "http://p:1", Some("Basic dXNlcjpwQHNzLw==")),
            ("http://user:p@s/s@p:1", "http://p:1", Some("Basic dXNlcjpwQHMvcw==")),
        ] {
            let proxy = Proxy::parse(given).unwrap_or_else(|error| panic!("{given}: {error}"));
            assert_eq!(proxy.to_string(), shown, "{given}");
            assert_eq!(proxy.authorization.as_ref().map(|text| text.as_str()), authorization, "{given}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_told_without_its_password() {
        for (given, part) in [
            ("socks5://user:secret@p:1", "\"socks5\" is not served; use http://"),
            ("http://user:secret@p:0", "port \"0\""),
            ("http://user:secret@", "no host"),
            ("http://user:secret@p/path", "has no path"),
            ("http://us%3Aer:secret@p", "user name holds ':'"),
            ("", "no host"),
        ] {
            let error = Proxy::parse(given).expect_err(given);
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{given}");
            assert!(error.to_string().contains(part), "{given}: {error}");
            assert!(!error.to_string().contains("secret"), "{given}: {error}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let proxy = Proxy::parse("http://user:secret@p:1").unwrap();
        assert_eq!(format!("{proxy:?}"), "Proxy(http://p:1, as a user)");
    }
}
