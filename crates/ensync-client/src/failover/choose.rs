//! Which failures another URL may help with, and what is said when none did.

use ensync_core::{Endpoint, Error, ErrorKind, report};

use crate::dial::is_networks_doing;

/// Whether another URL of the same engine may lead there. What the engine itself said, or its certificate, is final: the other way
/// ends at the same engine, or at somebody who should not have been asked.
pub(super) fn another_way_may_help(error: &Error) -> bool {
    if error.is_said_on_the_way() {
        // Another gateway, or none, may let it through.
        return true;
    }
    match error.kind() {
        // A gateway that serves one protocol and not the other answers the other in its own way.
        ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Interrupted | ErrorKind::Closed => true,
        ErrorKind::Protocol | ErrorKind::Unavailable => true,
        ErrorKind::Tls => is_networks_doing(error),
        _ => false,
    }
}

/// The error of a connection that no URL led to; each cause is told.
pub(super) fn none_leads_there(failures: Vec<(Endpoint, Error)>) -> Error {
    let kind = match failures.as_slice() {
        [(_, first), others @ ..] if others.iter().all(|(_, error)| error.kind() == first.kind()) => first.kind(),
        _ => ErrorKind::Connect,
    };
    let causes: Vec<_> = failures.iter().map(|(endpoint, error)| format!("{endpoint}: {}", report(error))).collect();
    let error = Error::new(kind, format!("none of {} URLs leads to the engine: {}", failures.len(), causes.join("; ")));
    let on_the_way = failures.iter().all(|(_, error)| error.is_said_on_the_way());
    if on_the_way { error.said_on_the_way() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_said_is_said_of_all_of_them_only_if_each_did() {
        let gateways = || Error::new(ErrorKind::Unauthenticated, "HTTP 401").said_on_the_way();
        let engines = || Error::new(ErrorKind::Unauthenticated, "no such key");
        assert!(another_way_may_help(&gateways()) && !another_way_may_help(&engines()));
        // Too many requests, says a gateway, or the engine, to which the other URL leads as well.
        let full = Error::new(ErrorKind::LimitExceeded, "too many");
        assert!(another_way_may_help(&full.clone().said_on_the_way()) && !another_way_may_help(&full));
        let failed = |second| {
            let to = |url: &str| Endpoint::parse(url).unwrap();
            none_leads_there(vec![(to("grpcs://h"), gateways()), (to("wss://h"), second)])
        };
        assert_eq!(failed(gateways()).kind(), ErrorKind::Unauthenticated);
        assert!(failed(gateways()).is_said_on_the_way());
        assert!(!failed(engines()).is_said_on_the_way());
    }
}
