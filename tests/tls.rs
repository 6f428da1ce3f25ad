//! TLS for real: `grpcs://` and `wss://` against certificates of a CA made for the test.

use std::net::SocketAddr;

use ensync_core::ErrorKind;
use ensync_engine::{NewApp, Server, ServerTls};
use ensync_sdk::{Engine, Error, TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use crate::world::{next, soon};

const LOCAL: &str = "127.0.0.1:0";

pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key, for `host`, valid until the end of the year `until`.
    pub fn issue(&self, host: &str, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

async fn serve(tls: ServerTls) -> (Server, NewApp) {
    let server = Server::dev().listen_tls(LOCAL.parse::<SocketAddr>().unwrap(), tls).start().await.unwrap();
    let app = server.create_app("shop").await.unwrap();
    (server, app)
}

async fn serve_for(ca: &Ca, host: &str, until: i32) -> (Server, NewApp) {
    let (chain, key) = ca.issue(host, until);
    serve(ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()).await
}

fn trusting(ca: &Ca) -> TlsOptions {
    TlsOptions::new().add_ca_pem(ca.pem().as_bytes()).unwrap()
}

/// The URL of each transport, for `host`.
fn urls(server: &Server, host: &str) -> [String; 2] {
    [server.grpc_url(), server.ws_url()].map(|url| url.replace("127.0.0.1", host))
}

async fn refusal(url: &str, tls: TlsOptions, app: &NewApp) -> Error {
    soon(Engine::new(url).unwrap().tls(tls).create_client(&app.app_key).into_future()).await.unwrap_err()
}

/// Each URL is refused with a TLS error that says `part`.
async fn each_refused(server: &Server, host: &str, tls: TlsOptions, app: &NewApp, part: &str) {
    for url in urls(server, host) {
        let error = refusal(&url, tls.clone(), app).await;
        assert_eq!(error.kind(), ErrorKind::Tls, "{url}: {error}");
        assert!(error.to_string().contains(part), "{url}: {error}");
    }
}

#[tokio::test]
async fn events_travel_over_tls() {
    let ca = Ca::new("test CA");
    let (server, app) = serve_for(&ca, "localhost", 2099).await;
    for url in urls(&server, "localhost") {
        assert!(url.starts_with("grpcs://") || url.starts_with("wss://"), "{url}");
        let engine = Engine::new(&url).unwrap().tls(trusting(&ca));
        let client = engine.create_client(&app.app_key).app_secret_key(&app.secret_key).await.unwrap();
        let mut events = client.subscribe("tls/test").await.unwrap();
        client.publish("tls/test", &url).to(app.app_id).await.unwrap();
        let event = next(&mut events).await;
        assert_eq!(event.payload::<String>().unwrap(), url);
        event.ack().await.unwrap();
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_ca_that_nobody_trusts() {
    let (server, app) = serve_for(&Ca::new("theirs"), "localhost", 2099).await;
    each_refused(&server, "localhost", trusting(&Ca::new("ours")), &app, "issuer is not trusted; add the CA").await;
}

#[tokio::test]
async fn a_certificate_that_has_expired() {
    let ca = Ca::new("test CA");
    let (server, app) = serve_for(&ca, "localhost", 2001).await;
    each_refused(&server, "localhost", trusting(&ca), &app, "has expired").await;
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    let ca = Ca::new("test CA");
    let (server, app) = serve_for(&ca, "example.com", 2099).await;
    each_refused(&server, "localhost", trusting(&ca), &app, "is not for \"localhost\"").await;
}

#[tokio::test]
async fn a_port_without_tls() {
    let server = Server::dev().start().await.unwrap();
    let app = server.create_app("shop").await.unwrap();
    for url in [server.grpc_url().replace("grpc:", "grpcs:"), server.ws_url().replace("ws:", "wss:")] {
        let error = refusal(&url, trusting(&Ca::new("any")), &app).await;
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        assert!(error.to_string().contains("does not speak TLS"), "{url}: {error}");
    }
}

#[tokio::test]
async fn plaintext_to_a_tls_port() {
    let ca = Ca::new("test CA");
    let (server, app) = serve_for(&ca, "localhost", 2099).await;
    for url in [server.grpc_url().replace("grpcs:", "grpc:"), server.ws_url().replace("wss:", "ws:")] {
        let error = refusal(&url, TlsOptions::new(), &app).await;
        assert_eq!(error.kind(), ErrorKind::Connect, "{url}: {error}");
        assert!(error.to_string().contains("TLS"), "{url}: {error}");
    }
}

#[tokio::test]
async fn client_certificates() {
    let (ca, client_ca) = (Ca::new("engine CA"), Ca::new("client CA"));
    let (chain, key) = ca.issue("localhost", 2099);
    let tls = ServerTls::from_pem_with_client_ca(chain.as_bytes(), key.as_bytes(), client_ca.pem().as_bytes()).unwrap();
    let (server, app) = serve(tls).await;
    let (chain, key) = client_ca.issue("shop", 2099);
    let shown = trusting(&ca).client_certificate_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    for url in urls(&server, "localhost") {
        let engine = Engine::new(&url).unwrap().tls(shown.clone());
        soon(engine.create_client(&app.app_key).into_future()).await.unwrap();
    }
    // TLS 1.3 tells the client only after its handshake is done: the transport is the one that meets the refusal.
    each_refused(&server, "localhost", trusting(&ca), &app, "wants a client certificate").await;
    let (chain, key) = Ca::new("another CA").issue("shop", 2099);
    let unknown = trusting(&ca).client_certificate_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    each_refused(&server, "localhost", unknown, &app, "wants a client certificate that it trusts").await;
}

#[test]
fn what_is_not_pem_is_told() {
    let ca = Ca::new("test CA");
    let (chain, key) = ca.issue("localhost", 2099);
    for error in [
        TlsOptions::new().add_ca_pem(b"").unwrap_err(),
        TlsOptions::new().add_ca_pem(key.as_bytes()).unwrap_err(),
        TlsOptions::new().client_certificate_pem(chain.as_bytes(), b"x").unwrap_err(),
        ServerTls::from_pem(key.as_bytes(), key.as_bytes()).unwrap_err(),
        ServerTls::from_pem(chain.as_bytes(), ca.issue("other", 2099).1.as_bytes()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}
