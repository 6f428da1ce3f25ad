use std::sync::Arc;

use ensync_client::core::{Connector, Endpoint, Result, Scheme};
use ensync_client::{Dialer, Transports};

/// Every transport that this build has: the features `grpc` and `ws`.
#[derive(Debug)]
pub enum AllTransports {}

impl Transports for AllTransports {
    fn connector(to: &Endpoint, dialer: Dialer) -> Result<Arc<dyn Connector>> {
        match to.scheme() {
            #[cfg(feature = "grpc")]
            Scheme::Grpc => ensync_grpc::Grpc::connector(to, dialer),
            #[cfg(feature = "ws")]
            Scheme::WebSocket => ensync_ws::Ws::connector(to, dialer),
            #[cfg(not(all(feature = "grpc", feature = "ws")))]
            disabled => {
                drop(dialer);
                let feature = match disabled {
                    Scheme::Grpc => "grpc",
                    Scheme::WebSocket => "ws",
                };
                Err(ensync_client::core::Error::new(
                    ensync_client::core::ErrorKind::FeatureDisabled,
                    format!("{to} needs the feature {feature:?} of ensync-sdk, which this build left out"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ensync_client::core::ErrorKind;

    use crate::Engine;

    #[test]
    fn a_scheme_is_served_or_names_its_feature() {
        for (url, enabled, feature) in
            [("grpc://localhost", cfg!(feature = "grpc"), "grpc"), ("wss://h", cfg!(feature = "ws"), "ws")]
        {
            match Engine::new(url) {
                Ok(_) => assert!(enabled),
                Err(error) => {
                    assert!(!enabled);
                    assert_eq!(error.kind(), ErrorKind::FeatureDisabled);
                    assert!(error.to_string().contains(&format!("{feature:?}")), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_fallback_is_served_or_names_its_feature() {
        let urls = [("grpcs://h", cfg!(feature = "grpc"), "grpc"), ("wss://h", cfg!(feature = "ws"), "ws")];
        let served = urls.iter().filter(|(_, enabled, _)| *enabled);
        for ((first, ..), (other, enabled, feature)) in served.flat_map(|one| urls.iter().map(move |two| (one, two))) {
            match Engine::new(first).unwrap().fallback(other) {
                Ok(engine) => assert!(*enabled && first != other && engine.endpoint() == &first.parse().unwrap()),
                Err(error) if first == other => assert_eq!(error.kind(), ErrorKind::InvalidUrl),
                Err(error) => {
                    assert!(!enabled);
                    assert_eq!(error.kind(), ErrorKind::FeatureDisabled);
                    assert!(error.to_string().contains(&format!("{feature:?}")), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_bad_url_is_told_before_anything_is_dialled() {
        assert_eq!(Engine::new("ftp://h").unwrap_err().kind(), ErrorKind::InvalidUrl);
    }
}
