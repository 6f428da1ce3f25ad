use std::fmt;
use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Result};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, crypto};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate that a listener shows, and whose client certificates it wants.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
}

impl ServerTls {
    /// A certificate chain, leaf first, and its private key (PKCS #8, PKCS #1 or SEC 1), each as PEM.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if either is not PEM, or they do not fit each other.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self> {
        Self::build(chain, key, None)
    }

    /// The same, and clients must show a certificate that a CA of `client_ca` issued.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem).
    pub fn from_pem_with_client_ca(chain: &[u8], key: &[u8], client_ca: &[u8]) -> Result<Self> {
        Self::build(chain, key, Some(client_ca))
    }

    fn build(chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self> {
        let chain = certificates(chain, "the certificate chain")?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|cause| refuse("the private key is not a PEM private key").with_source(cause))?;
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|cause| refuse("the crypto provider has no usable cipher suite").with_source(cause))?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem, "the client CA")? {
                    roots
                        .add(certificate)
                        .map_err(|cause| refuse("a client CA is not acceptable").with_source(cause))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|cause| refuse("the client CA is not usable").with_source(cause))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|cause| refuse("the certificate and the private key do not fit each other").with_source(cause))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|cause| refuse(&format!("{what} is not PEM")).with_source(cause))?;
    if read.is_empty() { Err(refuse(&format!("{what} file holds no CERTIFICATE section"))) } else { Ok(read) }
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("listener TLS: {why}"))
}
