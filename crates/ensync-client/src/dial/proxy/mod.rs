//! HTTP proxies: which one leads to an engine, and the tunnel through it.
//!
//! The environment is read as curl reads it, once for each [`Dialer`](super::Dialer).

mod bypass;
mod tunnel;
mod url;

use ensync_core::{Endpoint, Error, ErrorKind, Result};

use bypass::Bypass;
pub(super) use tunnel::open;
pub(super) use url::Proxy;

/// Through which proxies engines are reached.
#[derive(Clone, Debug)]
pub(super) enum Proxies {
    /// None.
    Direct,
    /// This one, for every engine that is not on this machine.
    Always(Box<Proxy>),
    /// What the environment says.
    Environment(Box<Environment>),
}

/// The environment's word. A variable that cannot be read fails the connections that need it, not those that do not.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    tls: Option<Result<Proxy>>,
    plain: Option<Result<Proxy>>,
    bypass: Bypass,
}

impl Proxies {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The lower-case form of a variable comes first; one that is empty counts as none.
    fn from_variables(value: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| value(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let either = |name: &'static str| {
            let lower = name.to_ascii_lowercase();
            set(&lower).map(|text| (lower, text)).or_else(|| Some((name.to_owned(), set(name)?)))
        };
        let read = |(name, text): (String, String)| {
            let unreadable = |error: Error| error.context(format_args!("environment variable {name}"));
            Proxy::parse(&text).map_err(unreadable)
        };
        let all = || either("ALL_PROXY");
        let plain = match either("HTTP_PROXY") {
            // In a CGI program whoever sends the request sets HTTP_PROXY, by its header "Proxy" (CVE-2016-5385).
            Some((name, _)) if name == "HTTP_PROXY" && value("REQUEST_METHOD").is_some() => all(),
            Some(given) => Some(given),
            None => all(),
        };
        let tls = either("HTTPS_PROXY").or_else(all);
        if tls.is_none() && plain.is_none() {
            return Self::Direct;
        }
        let bypass = either("NO_PROXY").map(|(_, list)| Bypass::parse(&list)).unwrap_or_default();
        Self::Environment(Box::new(Environment { tls: tls.map(read), plain: plain.map(read), bypass }))
    }

    /// The proxy that leads to an engine, if one does. An engine on this machine is reached directly, whatever anybody says.
    pub(super) fn toward(&self, to: &Endpoint) -> Result<Option<&Proxy>> {
        match self {
            _ if to.is_loopback() => Ok(None),
            Self::Direct => Ok(None),
            Self::Always(proxy) => Ok(Some(proxy)),
            Self::Environment(environment) if environment.bypass.covers(&to.host(), to.port()) => Ok(None),
            Self::Environment(environment) => {
                let proxy = if to.tls() { &environment.tls } else { &environment.plain };
                proxy.as_ref().map(|proxy| proxy.as_ref().map_err(Clone::clone)).transpose()
            }
        }
    }
}

/// What a proxy's failure is: no connection to the engine.
fn failed(to: &Endpoint, proxy: &Proxy, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Connect, format!("cannot connect to {to} through the proxy {proxy}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Proxies::from_variables(|name| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    }

    fn toward(variables: &[(&str, &str)], url: &str) -> String {
        match proxies(variables).toward(&url.parse().unwrap()) {
            Ok(None) => "direct".to_owned(),
            Ok(Some(proxy)) => proxy.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn which_variable_decides() {
        let (tls, plain, any) = ("http://tls:1", "http://plain:2", "http://any:3");
        let all: &[_] = &[("HTTPS_PROXY", tls), ("HTTP_PROXY", plain), ("ALL_PROXY", any)];
        for (variables, url, expected) in [
            (&[][..], "grpcs://h", "direct"),
            (all, "grpcs://h", tls),
            (all, "wss://h", tls),
            (all, "grpc://h", plain),
            (all, "ws://h", plain),
            (all, "localhost", "direct"),
            (all, "wss://127.0.0.1", "direct"),
            (all, "wss://[::1]", "direct"),
            (all, "wss://localhost.example.com", tls),
            (&[("ALL_PROXY", any)], "grpcs://h", any),
            (&[("all_proxy", any)], "ws://h", any),
            (&[("HTTPS_PROXY", tls)], "ws://h", "direct"),
            (&[("HTTP_PROXY", plain)], "wss://h", "direct"),
            (&[("HTTPS_PROXY", tls), ("https_proxy", any)], "wss://h", any),
            (&[("HTTPS_PROXY", " "), ("ALL_PROXY", any)], "wss://h", any),
            (&[("https_proxy", ""), ("HTTPS_PROXY", tls)], "wss://h", tls),
            (&[("HTTP_PROXY", plain), ("REQUEST_METHOD", "GET")], "ws://h", "direct"),
            (&[("http_proxy", plain), ("REQUEST_METHOD", "GET")], "ws://h", plain),
            (&[("HTTPS_PROXY", tls), ("NO_PROXY", "h")], "wss://h", "direct"),
            (&[("HTTPS_PROXY", tls), ("no_proxy", "other"), ("NO_PROXY", "h")], "wss://h", tls),
        ] {
            assert_eq!(toward(variables, url), expected, "{url} {variables:?}");
        }
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_named_and_fails_only_what_needs_it() {
        let variables = [("HTTPS_PROXY", "socks5://user:secret@h:1"), ("HTTP_PROXY", "http://plain:2")];
        let told = toward(&variables, "grpcs://h");
        assert!(told.contains("HTTPS_PROXY") && told.contains("socks5") && !told.contains("secret"), "{told}");
        assert_eq!(toward(&variables, "grpc://h"), "http://plain:2");
        assert_eq!(toward(&variables, "localhost"), "direct");
    }

    #[test]
    fn an_explicit_proxy_is_for_every_engine_elsewhere() {
        let always = Proxies::Always(Box::new(Proxy::parse("http://p:1").unwrap()));
        assert!(always.toward(&"wss://h".parse().unwrap()).unwrap().is_some());
        assert!(always.toward(&"wss://localhost".parse().unwrap()).unwrap().is_none());
        assert!(Proxies::Direct.toward(&"wss://h".parse().unwrap()).unwrap().is_none());
    }
}
