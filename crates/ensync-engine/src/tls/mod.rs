//! The certificate of a listener, and how it changes while the engine runs.

mod files;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ensync_core::{Error, ErrorKind, Result};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, crypto};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use files::Files;
pub use files::TlsFiles;

/// The certificate that a listener shows, and whose client certificates it wants.
///
/// A handle, cheap to clone. Made [from files](ServerTls::from_files), it follows them: see there.
#[derive(Clone)]
pub struct ServerTls(Arc<Shared>);

struct Shared {
    config: RwLock<Arc<ServerConfig>>,
    files: Option<Files>,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// Every client must, or the handshake fails.
    #[default]
    Required,
    /// A client may go without. One that shows a certificate must show one that the CA issued.
    Optional,
}

impl ServerTls {
    /// A certificate chain, leaf first, and its private key (PKCS #8, PKCS #1 or SEC 1), each as PEM. It never changes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if either is not PEM, or they do not fit each other.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self> {
        Ok(Self::fixed(build(chain, key, None)?))
    }

    /// The same, and clients must show a certificate that a CA of `client_ca` issued.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem).
    pub fn from_pem_with_client_ca(chain: &[u8], key: &[u8], client_ca: &[u8]) -> Result<Self> {
        Ok(Self::fixed(build(chain, key, Some((client_ca, ClientCertificates::Required)))?))
    }

    /// The same from files, and it goes with them: a [`Server`](crate::Server) looks at them every
    /// [`check_every`](TlsFiles::check_every), however they were replaced (written over, renamed over, a symbolic link moved). New
    /// connections then see the new certificate, open ones go on. While new files are unusable the old certificate stays, and an
    /// error in the log says which file is wrong, and why.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a file cannot be read, or is not what it should be; the message names it.
    pub fn from_files(files: TlsFiles) -> Result<Self> {
        let (files, config) = Files::open(files)?;
        Ok(Self(Arc::new(Shared { config: RwLock::new(config), files: Some(files) })))
    }

    /// Reads the files again, now. Says whether they had changed; without files they never do.
    ///
    /// # Errors
    ///
    /// As [`from_files`](Self::from_files); the certificate then stays what it was.
    pub fn reload(&self) -> Result<bool> {
        let Some(files) = &self.0.files else { return Ok(false) };
        let Some(config) = files.changed()? else { return Ok(false) };
        // Nothing panics while it is held.
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        tracing::info!(files = %files, "new TLS certificate");
        Ok(true)
    }

    fn fixed(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(Shared { config: RwLock::new(config), files: None }))
    }

    /// What the next connection is served with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.0.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows the files, for ever. Returns at once without any.
    pub(super) async fn follow(self) {
        let Some(every) = self.0.files.as_ref().map(Files::check_every) else { return };
        let mut told = None;
        loop {
            tokio::time::sleep(every).await;
            let tls = self.clone();
            let Ok(outcome) = tokio::task::spawn_blocking(move || tls.reload()).await else { return };
            let failed = outcome.err();
            // Twice the same: whoever replaces several files does it one after the other, and we may look in between.
            let text = failed.as_ref().map(|error| ensync_core::report(error));
            match (&text, &told) {
                (Some(text), Some((last, false))) if text == last => {
                    tracing::error!(error = %text, "the new TLS files are unusable; the old certificate stays");
                    told = Some((text.clone(), true));
                }
                (Some(text), Some((last, true))) if text == last => {}
                (Some(text), _) => told = Some((text.clone(), false)),
                (None, _) => told = None,
            }
        }
    }

    /// Whether two handles are of the same certificate.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

fn build(chain: &[u8], key: &[u8], client_ca: Option<(&[u8], ClientCertificates)>) -> Result<Arc<ServerConfig>> {
    let chain = certificates(chain, "the certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|cause| refuse("the private key is not a PEM private key").with_source(cause))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|cause| refuse("the crypto provider has no usable cipher suite").with_source(cause))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some((pem, wanted)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem, "the client CA")? {
                roots.add(certificate).map_err(|cause| refuse("a client CA is not acceptable").with_source(cause))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match wanted {
                ClientCertificates::Required => verifier,
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
            };
            let verifier =
                verifier.build().map_err(|cause| refuse("the client CA is not usable").with_source(cause))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|cause| refuse("the certificate and the private key do not fit each other").with_source(cause))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|cause| refuse(&format!("{what} is not PEM")).with_source(cause))?;
    if read.is_empty() { Err(refuse(&format!("{what} holds no CERTIFICATE section"))) } else { Ok(read) }
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("listener TLS: {why}"))
}
