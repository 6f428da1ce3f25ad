use std::sync::Arc;

use ensync_engine::{Server, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::shell::Shell;

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for the loopback address.
    fn issue(&self) -> ServerTls {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        ServerTls::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    /// A certificate and its key, each as a file.
    fn client(&self, directory: &tempfile::TempDir) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().signed_by(&key, &self.0).unwrap();
        [("client.pem", certificate.pem()), ("client.key", key.serialize_pem())].map(|(name, pem)| {
            let path = directory.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path.to_str().unwrap().to_owned()
        })
    }

    /// A certificate for the loopback address; clients must show one too.
    fn issue_for_known_clients(&self) -> ServerTls {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        let (key, ca) = (key.serialize_pem(), self.0.pem());
        ServerTls::from_pem_with_client_ca(chain.as_bytes(), key.as_bytes(), ca.as_bytes()).unwrap()
    }

    /// A client that trusts it alone.
    fn agent(&self) -> Agent {
        let roots = [Certificate::from_pem(self.0.pem().as_bytes()).unwrap()];
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        Agent::config_builder().tls_config(tls).proxy(None).build().into()
    }

    fn write(&self, directory: &tempfile::TempDir, name: &str) -> String {
        let path = directory.path().join(name);
        std::fs::write(&path, self.0.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn the_admin_api_over_tls() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let server = Server::builder().admin_tls(([127, 0, 0, 1], 0), ca.issue()).start().await.unwrap();
    assert!(server.admin_url().unwrap().starts_with("https://"));
    let trusted = ca.write(&directory, "ca.pem");
    let shell = Shell::of(&server).and("ENSYNC_ADMIN_CA_FILE", &trusted);
    shell.run("app create shop").await.ok();
    assert_eq!(shell.run("app list --json").await.json()[0]["name"], "shop");

    // Somebody else's certificate gets no token, whether it is another CA that is trusted or the system's.
    let other = Ca::new().write(&directory, "other.pem");
    for shell in [Shell::of(&server), Shell::of(&server).and("ENSYNC_ADMIN_CA_FILE", &other)] {
        let said = shell.run("app list").await.failed();
        assert!(said.contains("cannot reach the admin API") && said.contains("certificate"), "{said}");
    }
    // Plaintext on that port is nothing.
    let plain = server.admin_url().unwrap().replace("https://", "http://");
    Shell::of(&server).with(&["app", "list", "--admin-url", &plain]).await.failed();
}

#[tokio::test]
async fn the_config_manager_api_over_tls() {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = Server::builder().config_manager_tls(([127, 0, 0, 1], 0), ca.issue()).start().await.unwrap();
    let url = server.config_manager_url().unwrap();
    assert!(url.starts_with("https://"));
    let key = server.admin_token().unwrap().expose().to_owned();
    let ask = async |agent: Agent, url: &str| {
        let request = agent.get(format!("{url}/access-key")).header("X-ACCESS-KEY", &key);
        tokio::task::spawn_blocking(move || request.call()).await.unwrap()
    };
    let mut answer = ask(ca.agent(), &url).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.body_mut().read_to_string().unwrap().contains("resultsLength"));
    let refused = ask(other.agent(), &url).await.unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
    ask(ca.agent(), &url.replace("https://", "http://")).await.unwrap_err();
}

#[tokio::test]
async fn who_is_asked_for_a_certificate_shows_one() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::builder()
        .listen_tls(local, ca.issue_for_known_clients())
        .admin_tls(local, ca.issue_for_known_clients())
        .start()
        .await
        .unwrap();
    let trusted = ca.write(&directory, "ca.pem");
    let [certificate, key] = ca.client(&directory);
    let bare = || Shell::of(&server).and("ENSYNC_ADMIN_CA_FILE", &trusted).and("ENSYNC_CA_FILE", &trusted);
    let known = || bare().and("ENSYNC_CLIENT_CERT", &certificate).and("ENSYNC_CLIENT_KEY", &key);
    assert!(bare().run("app create shop").await.failed().contains("cannot reach the admin API"));
    let keys = known().run("app create shop").await.keys();
    known().run("event create a/b").await.ok();
    let said = bare().and("ENSYNC_CLIENT_CERT", &certificate).run("app list").await.failed();
    assert!(said.contains("give --client-key"), "{said}");
    let said = bare().and("ENSYNC_CLIENT_CERT", &certificate).and("ENSYNC_CLIENT_KEY", &trusted).run("app list").await;
    assert!(said.failed().contains("private key"));

    for url in [server.grpc_url(), server.ws_url()] {
        let of = |shell: Shell| shell.and("ENSYNC_URL", &url).and("ENSYNC_APP_KEY", &keys["ENSYNC_APP_KEY"]);
        let publish = ["publish", "a/b", "1", "--to", &keys["ENSYNC_APP_ID"]];
        of(known()).with(&publish).await.ok();
        let said = of(bare()).with(&publish).await.failed();
        assert!(said.contains("client certificate") && said.contains("--client-cert"), "{said}");
        let secret = known().and("ENSYNC_SECRET_KEY", &keys["ENSYNC_SECRET_KEY"]);
        assert!(of(secret).run("subscribe a/b --count 1 --format raw").await.ok().starts_with('1'));
    }
}
