//! Which engines are reached without the environment's proxy: `NO_PROXY`.

use std::net::IpAddr;

use ipnet::IpNet;

/// The entries of `NO_PROXY`.
#[derive(Clone, Debug, Default)]
pub(super) struct Bypass(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    whom: Whom,
    /// This port alone.
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum Whom {
    All,
    /// This name and the names below it.
    Name(String),
    Address(IpAddr),
    Network(IpNet),
}

impl Bypass {
    /// Reads entries between commas or spaces: `*`, a name (with the names below it, whether it begins with a dot or not), an IP
    /// address, a network such as `10.0.0.0/8`; each but a network may end in `:port`.
    pub(super) fn parse(list: &str) -> Self {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        Self(entries.map(Entry::parse).collect())
    }

    pub(super) fn covers(&self, host: &str, port: u16) -> bool {
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.0.iter().any(|entry| {
            entry.port.is_none_or(|only| only == port)
                && match &entry.whom {
                    Whom::All => true,
                    Whom::Name(name) => address.is_none() && is_within(&host, name),
                    Whom::Address(known) => address == Some(*known),
                    Whom::Network(network) => address.is_some_and(|address| network.contains(&address)),
                }
        })
    }
}

impl Entry {
    fn parse(text: &str) -> Self {
        if let Ok(network) = text.parse::<IpNet>() {
            return Self { whom: Whom::Network(network), port: None };
        }
        let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if let Ok(address) = bare(text) {
            return Self { whom: Whom::Address(address.to_canonical()), port: None };
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (text, None),
            },
            None => (text, None),
        };
        let whom = match (host, bare(host)) {
            ("*", _) => Whom::All,
            (_, Ok(address)) => Whom::Address(address.to_canonical()),
            (name, Err(_)) => {
                let name = name.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
                Whom::Name(name.to_ascii_lowercase())
            }
        };
        Self { whom, port }
    }
}

fn is_within(host: &str, name: &str) -> bool {
    match host.strip_suffix(name) {
        Some("") => !name.is_empty(),
        Some(below) => !name.is_empty() && below.ends_with('.'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        for (list, host, port, covered) in [
            ("", "h", 1, false),
            (",, ,", "h", 1, false),
            ("*", "anything", 1, true),
            ("*:8", "anything", 1, false),
            ("example.com", "example.com", 1, true),
            ("example.com", "EXAMPLE.com.", 1, true),
            ("example.com", "node.example.com", 1, true),
            ("example.com", "badexample.com", 1, false),
            ("example.com", "example.com.evil.org", 1, false),
            (".example.com", "node.example.com", 1, true),
            (".example.com", "example.com", 1, true),
            ("*.example.com", "node.example.com", 1, true),
            (".", "h", 1, false),
            ("a, example.com b", "example.com", 1, true),
            ("a b", "b", 1, true),
            ("example.com:443", "node.example.com", 443, true),
            ("example.com:443", "node.example.com", 50051, false),
            ("192.168.1.7", "192.168.1.7", 1, true),
            ("192.168.1.7", "192.168.1.70", 1, false),
            ("192.168.1.7:80", "192.168.1.7", 443, false),
            ("1.7", "192.168.1.7", 1, false),
            ("192.168.0.0/16", "192.168.1.7", 1, true),
            ("192.168.0.0/16", "192.169.1.7", 1, false),
            ("192.168.0.0/16", "node.example.com", 1, false),
            ("2001:db8::1", "2001:db8::1", 1, true),
            ("[2001:db8::1]", "2001:db8::1", 1, true),
            ("[2001:db8::1]:443", "2001:db8::1", 443, true),
            ("[2001:db8::1]:443", "2001:db8::1", 80, false),
            ("2001:db8::/32", "2001:db8:7::1", 1, true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", 1, true),
            ("300.0.0.0/8", "10.1.2.3", 1, false),
        ] {
            assert_eq!(Bypass::parse(list).covers(host, port), covered, "{list:?} {host} {port}");
        }
    }
}
