//! Certificates that change while the engine runs: on every way files are replaced, and when they are broken.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_core::ErrorKind;
use ensync_engine::{ClientCertificates, NewApp, Server, ServerTls, TlsFiles};
use ensync_sdk::{Client, Engine, Result, TlsOptions};
use tempfile::TempDir;

use crate::tls::Ca;
use crate::world::{eventually, soon};

struct Files {
    directory: TempDir,
    chain: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(ca: &Ca) -> Self {
        let directory = TempDir::new().unwrap();
        let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
        let files = Self { directory, chain, key };
        files.replace_with(ca);
        files
    }

    /// Writes a certificate of `ca` over what is there.
    fn replace_with(&self, ca: &Ca) {
        let (chain, key) = ca.issue("localhost", 2099);
        fs::write(&self.chain, chain).unwrap();
        fs::write(&self.key, key).unwrap();
    }

    fn tls(&self) -> TlsFiles {
        TlsFiles::new(&self.chain, &self.key)
    }
}

async fn serve(tls: &ServerTls) -> (Server, NewApp) {
    let server = Server::dev().listen_tls("127.0.0.1:0".parse().unwrap(), tls.clone()).start().await.unwrap();
    let app = server.create_app("shop").await.unwrap();
    (server, app)
}

fn trusting(ca: &Ca) -> TlsOptions {
    TlsOptions::new().add_ca_pem(ca.pem().as_bytes()).unwrap()
}

async fn connect(server: &Server, app: &NewApp, tls: TlsOptions) -> Result<Client> {
    let engine = Engine::new(&server.grpc_url().replace("127.0.0.1", "localhost")).unwrap().tls(tls);
    soon(engine.create_client(&app.app_key).into_future()).await
}

#[tokio::test]
async fn the_next_connection_sees_the_new_certificate_and_open_ones_go_on() {
    let (before, after) = (Ca::new("before"), Ca::new("after"));
    let files = Files::of(&before);
    let tls = ServerTls::from_files(files.tls()).unwrap();
    let (server, app) = serve(&tls).await;
    let open = connect(&server, &app, trusting(&before)).await.unwrap();
    assert!(!tls.reload().unwrap(), "nothing has changed");
    files.replace_with(&after);
    assert_eq!(connect(&server, &app, trusting(&after)).await.unwrap_err().kind(), ErrorKind::Tls);
    assert!(tls.reload().unwrap());
    connect(&server, &app, trusting(&after)).await.unwrap();
    assert_eq!(connect(&server, &app, trusting(&before)).await.unwrap_err().kind(), ErrorKind::Tls);
    open.publish("a/b", &1).to(app.app_id).await.unwrap();
}

#[tokio::test]
async fn files_are_followed_however_they_are_replaced() {
    let first = Ca::new("first");
    let files = Files::of(&first);
    // As Kubernetes mounts a secret: the names are links through a link to a directory, and only that one moves.
    let (root, data) = (files.directory.path(), files.directory.path().join("..data"));
    let generation = |name: &str, ca: &Ca| {
        let (chain, key) = ca.issue("localhost", 2099);
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("chain.pem"), chain).unwrap();
        fs::write(root.join(name).join("key.pem"), key).unwrap();
    };
    let swap = |name: &str| {
        symlink(name, root.join("..new")).unwrap();
        fs::rename(root.join("..new"), &data).unwrap();
    };
    generation("..1", &first);
    swap("..1");
    for name in ["chain.pem", "key.pem"] {
        fs::remove_file(root.join(name)).unwrap();
        symlink(Path::new("..data").join(name), root.join(name)).unwrap();
    }
    let tls = ServerTls::from_files(files.tls().check_every(Duration::from_millis(1))).unwrap();
    let (server, app) = serve(&tls).await;
    connect(&server, &app, trusting(&first)).await.unwrap();

    let second = Ca::new("second");
    generation("..2", &second);
    swap("..2");
    eventually(async || connect(&server, &app, trusting(&second)).await.is_ok()).await;

    // As certbot does it: each name a link of its own, moved one after the other; then files that are renamed over the links.
    let third = Ca::new("third");
    generation("..3", &third);
    for name in ["key.pem", "chain.pem"] {
        symlink(Path::new("..3").join(name), root.join("..new")).unwrap();
        fs::rename(root.join("..new"), root.join(name)).unwrap();
    }
    eventually(async || connect(&server, &app, trusting(&third)).await.is_ok()).await;

    let fourth = Ca::new("fourth");
    generation("..4", &fourth);
    for name in ["chain.pem", "key.pem"] {
        fs::rename(root.join("..4").join(name), root.join(name)).unwrap();
    }
    eventually(async || connect(&server, &app, trusting(&fourth)).await.is_ok()).await;
}

#[tokio::test]
async fn broken_files_change_nothing_and_are_named() {
    let ca = Ca::new("test CA");
    let files = Files::of(&ca);
    let tls = ServerTls::from_files(files.tls()).unwrap();
    let (server, app) = serve(&tls).await;
    let (chain, key) = ca.issue("localhost", 2099);
    let good = (fs::read(&files.chain).unwrap(), fs::read(&files.key).unwrap());
    let cases: [(&Path, Option<&[u8]>, &str, &str); 6] = [
        (&files.chain, Some(b""), "chain.pem", "certificate chain holds no CERTIFICATE"),
        (&files.chain, Some(&chain.as_bytes()[..300]), "chain.pem", "certificate chain"),
        (&files.chain, Some(chain.as_bytes()), "chain.pem", "do not fit each other"),
        (&files.key, Some(b"no key"), "key.pem", "the private key is not a PEM private key"),
        (&files.key, Some(key.as_bytes()), "key.pem", "do not fit each other"),
        (&files.key, None, "key.pem", "cannot read"),
    ];
    for (path, content, name, why) in cases {
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        for _ in 0..2 {
            let error = tls.reload().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(name) && error.to_string().contains(why), "{error}");
        }
        assert_eq!(ServerTls::from_files(files.tls()).unwrap_err().kind(), ErrorKind::InvalidInput);
        connect(&server, &app, trusting(&ca)).await.unwrap();
        fs::write(&files.chain, &good.0).unwrap();
        fs::write(&files.key, &good.1).unwrap();
        assert!(!tls.reload().unwrap(), "back to what it was");
    }
    let huge = fs::File::create(&files.key).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("is it the right file?"));
}

/// What is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn broken_files_are_logged_once() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let files = Files::of(&Ca::new("test CA"));
    let (_server, _) = serve(&ServerTls::from_files(files.tls()).unwrap()).await;
    fs::write(&files.key, "no key, but a secret").unwrap();
    let looks = |times: u32| tokio::time::sleep(Duration::from_secs(30) * times + Duration::from_secs(1));
    let text = || String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    looks(1).await;
    assert!(!text().contains("ERROR"), "it may be half way: {}", text());
    looks(100).await;
    files.replace_with(&Ca::new("fixed"));
    looks(2).await;
    let text = text();
    assert_eq!(text.matches("ERROR").count(), 1, "{text}");
    assert!(text.contains("key.pem") && text.contains("not a PEM private key"), "{text}");
    assert!(!text.contains("a secret"), "{text}");
}

#[tokio::test]
async fn client_certificates_may_be_optional_and_their_ca_is_followed() {
    let (ca, first, second) = (Ca::new("engine CA"), Ca::new("clients 1"), Ca::new("clients 2"));
    let files = Files::of(&ca);
    let client_ca = files.directory.path().join("clients.pem");
    fs::write(&client_ca, first.pem()).unwrap();
    let shown = |by: &Ca| {
        let (chain, key) = by.issue("shop", 2099);
        trusting(&ca).client_certificate_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    };
    for (wanted, without) in [(ClientCertificates::Required, false), (ClientCertificates::Optional, true)] {
        fs::write(&client_ca, first.pem()).unwrap();
        let tls = ServerTls::from_files(files.tls().client_ca(&client_ca, wanted)).unwrap();
        let (server, app) = serve(&tls).await;
        assert_eq!(connect(&server, &app, trusting(&ca)).await.is_ok(), without, "{wanted:?}");
        connect(&server, &app, shown(&first)).await.unwrap();
        assert_eq!(connect(&server, &app, shown(&second)).await.unwrap_err().kind(), ErrorKind::Tls);
        fs::write(&client_ca, second.pem()).unwrap();
        assert!(tls.reload().unwrap());
        connect(&server, &app, shown(&second)).await.unwrap();
        // Nor does a session of the old CA resume.
        assert_eq!(connect(&server, &app, shown(&first)).await.unwrap_err().kind(), ErrorKind::Tls);
    }
}
