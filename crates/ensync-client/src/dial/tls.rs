//! TLS by rustls: system roots, extra roots, a client certificate; and failures told apart.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use ensync_core::{Endpoint, Error, ErrorKind, Result};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConfig, ResolvesClientCert, WebPkiServerVerifier};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, RootCertStore, SignatureScheme, crypto};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Stream;
use super::stream::{Carrier, Tcp};

/// What TLS connections trust, and show. The system's roots are trusted unless [`only_added_cas`](Self::only_added_cas) is called;
/// verification cannot be turned off.
///
/// ```no_run
/// use ensync_client::TlsOptions;
///
/// let tls = TlsOptions::new()
///     .add_ca_pem(&std::fs::read("company-ca.pem")?)?
///     .client_certificate_pem(&std::fs::read("app.pem")?, &std::fs::read("app.key")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct TlsOptions {
    extra_roots: Vec<CertificateDer<'static>>,
    extra_alone: bool,
    identity: Option<(Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>)>,
}

impl TlsOptions {
    /// The system's roots and no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates of a PEM file as well: a company's own CA, or a test's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is not PEM, or holds no certificate.
    pub fn add_ca_pem(mut self, pem: &[u8]) -> Result<Self> {
        self.extra_roots.extend(certificates(pem, "CA")?);
        Ok(self)
    }

    /// Trusts only what [`add_ca_pem`](Self::add_ca_pem) adds, and not the system's roots: no public CA can then speak for the engine.
    #[must_use]
    pub fn only_added_cas(mut self) -> Self {
        self.extra_alone = true;
        self
    }

    /// Shows a certificate to engines that ask for one: its chain, leaf first, and its private key (PKCS #8, PKCS #1 or SEC 1),
    /// each as PEM.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if either is not PEM, or holds no certificate or key.
    pub fn client_certificate_pem(mut self, chain: &[u8], key: &[u8]) -> Result<Self> {
        let chain = certificates(chain, "client")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, "TLS: the client's private key is not a PEM private key")
                .with_source(cause)
        })?;
        self.identity = Some((chain, Arc::new(key)));
        Ok(self)
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("extra_roots", &self.extra_roots.len())
            .field("extra_alone", &self.extra_alone)
            .field("client_certificate", &self.identity.is_some())
            .finish()
    }
}

fn certificates(pem: &[u8], whose: &str) -> Result<Vec<CertificateDer<'static>>> {
    let refuse = |why: &str| Error::new(ErrorKind::InvalidInput, format!("TLS: the {whose} certificate {why}"));
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|cause| refuse("is not PEM").with_source(cause))?;
    if read.is_empty() { Err(refuse("file holds no CERTIFICATE section")) } else { Ok(read) }
}

/// The options and, once somebody dialled, what rustls made of them: reading the system's roots takes milliseconds.
#[derive(Default)]
pub(super) struct Tls {
    options: TlsOptions,
    config: OnceLock<Result<Arc<ClientConfig>>>,
}

impl Tls {
    pub(super) fn new(options: TlsOptions) -> Self {
        Self { options, config: OnceLock::new() }
    }

    /// The handshake with an engine.
    pub(super) async fn handshake(self: &Arc<Self>, to: &Endpoint, over: Carrier, alpn: &[&[u8]]) -> Result<Stream> {
        let mut config = ClientConfig::clone(self.config().await?.as_ref());
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        shake_hands(config, &to.to_string(), &to.host(), over).await.map(Stream::tls)
    }

    /// The handshake with a proxy. It trusts what an engine's does, and shows no certificate: that is for engines.
    pub(super) async fn to_proxy(self: &Arc<Self>, proxy: &str, host: &str, tcp: Tcp) -> Result<TlsStream<Tcp>> {
        let mut config = ClientConfig::clone(self.config().await?.as_ref());
        config.client_auth_cert_resolver = Arc::new(NoIdentity);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        shake_hands(config, &format!("the proxy {proxy}"), host, tcp).await
    }

    /// Built on first use.
    async fn config(self: &Arc<Self>) -> Result<Arc<ClientConfig>> {
        let this = self.clone();
        let built = tokio::task::spawn_blocking(move || this.config.get_or_init(|| this.build()).clone()).await;
        built.map_err(|cause| {
            Error::new(ErrorKind::Internal, "reading the TLS roots was cancelled").with_source(cause)
        })?
    }

    fn build(&self) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(crypto::ring::default_provider());
        let broken =
            |what: &'static str| move |cause: rustls::Error| Error::new(ErrorKind::Tls, what).with_source(cause);
        let roots = self.options.extra_roots.iter().cloned();
        let verifier: Arc<dyn ServerCertVerifier> = match self.options.extra_alone {
            false => Arc::new(
                Verifier::new_with_extra_roots(roots, provider.clone())
                    .map_err(broken("TLS: no usable root certificates; install the system's, or add a CA"))?,
            ),
            true => {
                let mut trusted = RootCertStore::empty();
                roots
                    .map(|root| trusted.add(root))
                    .collect::<std::result::Result<Vec<()>, _>>()
                    .map_err(broken("TLS: a CA that was added is no usable root certificate"))?;
                WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), provider.clone()).build().map_err(
                    |cause| {
                        let text = "TLS: only the CAs that were added are to be trusted; add one";
                        Error::new(ErrorKind::Tls, text).with_source(cause)
                    },
                )?
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(broken("TLS: the crypto provider has no usable cipher suite"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &self.options.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(broken("TLS: the client certificate and its private key do not fit each other"))?,
        };
        Ok(Arc::new(config))
    }
}

async fn shake_hands<S>(config: ClientConfig, place: &str, host: &str, over: S) -> Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|cause| {
        Error::new(ErrorKind::InvalidUrl, format!("{place}: the host is no name a certificate can be for"))
            .with_source(cause)
    })?;
    TlsConnector::from(Arc::new(config)).connect(name, over).await.map_err(|cause| explain(place, host, cause))
}

/// Shows no certificate.
#[derive(Debug)]
struct NoIdentity;

impl ResolvesClientCert for NoIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

const WANTS_CERTIFICATE: &str =
    "the engine wants a client certificate that it trusts; give it one, with its private key";

/// The error of a connection that broke with `cause` because the engine does not take this side's certificate, or misses one.
///
/// For transports: TLS 1.3 ends the client's handshake before the engine looks at the client's certificate (RFC 8446 section 2), so
/// the refusal comes as the first thing that is read.
#[doc(hidden)]
pub fn tls_refusal(to: &Endpoint, cause: &io::Error) -> Option<Error> {
    let tls = rustls_error(cause).filter(|tls| refuses_certificate(tls))?;
    Some(Error::new(ErrorKind::Tls, format!("TLS with {to}: {WANTS_CERTIFICATE}")).with_source(tls.clone()))
}

pub(super) fn rustls_error(cause: &io::Error) -> Option<&rustls::Error> {
    cause.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Whether a TLS failure is the network's doing rather than a verdict on a certificate: the connection broke, what answers does not
/// speak TLS, or not this protocol over it. Then another way to the same engine may be open.
pub(crate) fn is_networks_doing(error: &Error) -> bool {
    let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) else { return false };
    match rustls_error(cause) {
        None => true,
        Some(rustls::Error::InvalidMessage(_)) => true,
        Some(rustls::Error::AlertReceived(alert)) => *alert == AlertDescription::NoApplicationProtocol,
        Some(_) => false,
    }
}

fn refuses_certificate(tls: &rustls::Error) -> bool {
    matches!(
        tls,
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied,
        )
    )
}

/// Says which of the ways to fail it was.
fn explain(to: &str, host: &str, cause: io::Error) -> Error {
    let tls = rustls_error(&cause);
    let why = match tls {
        Some(rustls::Error::InvalidCertificate(certificate)) => explain_certificate(host, certificate),
        Some(rustls::Error::InvalidMessage(_)) => {
            "the port does not speak TLS; use the engine's TLS port, or grpc:// or ws:// if plaintext is meant"
                .to_owned()
        }
        Some(tls) if refuses_certificate(tls) => WANTS_CERTIFICATE.to_owned(),
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "the engine does not speak this transport on this port".to_owned()
        }
        Some(_) => "the handshake failed".to_owned(),
        None if cause.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed during the handshake; does the port speak TLS?".to_owned()
        }
        None => "the connection broke during the handshake".to_owned(),
    };
    Error::new(ErrorKind::Tls, format!("TLS with {to}: {why}")).with_source(cause)
}

fn explain_certificate(host: &str, certificate: &CertificateError) -> String {
    match certificate {
        CertificateError::UnknownIssuer => {
            "the certificate's issuer is not trusted; add the CA if it is your own".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired; renew it on the engine".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet; is this machine's clock right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate is not for {host:?}")
        }
        CertificateError::Revoked => "the certificate is revoked".to_owned(),
        _ => "the certificate is not acceptable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use rustls_pki_types::PrivatePkcs8KeyDer;

    use super::*;

    /// A CA, as PEM, and what a server shows that has a certificate of it.
    fn authority(name: &str) -> (String, Arc<ServerConfig>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["engine.test".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(own.serialize_der()).into())
            .unwrap();
        (pem, Arc::new(config))
    }

    async fn handshake(options: TlsOptions, server: &Arc<ServerConfig>) -> Result<()> {
        let config = Tls::new(options).build()?;
        let (near, far) = tokio::io::duplex(1 << 16);
        let accepting = tokio::spawn(tokio_rustls::TlsAcceptor::from(server.clone()).accept(far));
        let shaken = shake_hands(ClientConfig::clone(&config), "engine.test", "engine.test", near).await;
        let _ = accepting.await;
        shaken.map(drop)
    }

    #[tokio::test]
    async fn added_cas_may_be_all_that_is_trusted() {
        let ((own, server), (other, _)) = (authority("own"), authority("other"));
        let alone = |pem: &str| TlsOptions::new().add_ca_pem(pem.as_bytes()).unwrap().only_added_cas();
        handshake(alone(&own), &server).await.unwrap();
        let error = handshake(alone(&other), &server).await.unwrap_err();
        assert!(error.to_string().contains("issuer is not trusted"), "{error}");
        let error = handshake(TlsOptions::new().only_added_cas(), &server).await.unwrap_err();
        assert!(error.to_string().contains("add one"), "{error}");
    }
}
