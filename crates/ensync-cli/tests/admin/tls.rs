use ensync_engine::{Server, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

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
