//! CONNECT proxies of the tests' own. The engine's name is one that only they know.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ensync_engine::{NewApp, Server, ServerTls};
use ensync_sdk::{Engine, Error, ErrorKind};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::ca::Ca;
use crate::over_both;
use crate::world::{Transport, n_of, next, soon};

const HOST: &str = "engine.test";

/// What a proxy does once it was asked.
#[derive(Clone, Copy)]
enum Does {
    Connects,
    Answers(&'static str),
    Nothing,
}

struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(does: Does, engine: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (heard, tls) = (heard.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => serve(tls.accept(near).await.unwrap(), does, engine, &heard).await,
                        None => serve(near, does, engine, &heard).await,
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut near: S,
    does: Does,
    engine: SocketAddr,
    heard: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match near.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    heard.lock().unwrap().push(String::from_utf8(head).unwrap());
    match does {
        Does::Nothing => std::future::pending().await,
        Does::Answers(answer) => near.write_all(answer.as_bytes()).await.unwrap(),
        Does::Connects => {
            let mut far = TcpStream::connect(engine).await.unwrap();
            // What follows in the same breath belongs to the engine's side already, which may speak first.
            near.write_all(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    }
}

fn address(url: &str) -> SocketAddr {
    url.split("://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap()
}

fn url(server: &Server, transport: Transport) -> String {
    match transport {
        Transport::Grpc => server.grpc_url(),
        _ => server.ws_url(),
    }
}

/// The engine's URL by the name that only proxies know.
fn far(server: &Server, transport: Transport) -> String {
    url(server, transport).replace("127.0.0.1", HOST)
}

async fn works(engine: &Engine, app: &NewApp) {
    let client = soon(engine.create_client(&app.app_key).app_secret_key(&app.secret_key).into_future()).await.unwrap();
    let mut orders = client.subscribe("orders/placed").await.unwrap();
    client.publish("orders/placed", &serde_json::json!({"n": 7})).to(app.app_id).await.unwrap();
    let event = next(&mut orders).await;
    assert_eq!(n_of(&event), 7);
    event.ack().await.unwrap();
    client.close().await.unwrap();
}

async fn plain() -> (Server, NewApp) {
    let server = Server::dev().start().await.unwrap();
    let app = server.create_app("shop").await.unwrap();
    (server, app)
}

async fn a_proxy_leads_to_an_engine_whose_name_only_it_knows(transport: Transport) {
    let (server, app) = plain().await;
    let proxy = Proxy::start(Does::Connects, address(&url(&server, transport)), None).await;
    let engine = Engine::new(&far(&server, transport)).unwrap();
    let engine = engine.proxy(&format!("http://shop:p%40ss@{}", proxy.address)).unwrap();
    works(&engine, &app).await;
    let asked = proxy.asked().concat();
    let port = address(&url(&server, transport)).port();
    assert!(asked.starts_with(&format!("CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n")), "{asked}");
    assert!(asked.contains("\r\nProxy-Authorization: Basic c2hvcDpwQHNz\r\n"), "{asked}");
    // An engine on this machine is not asked for there.
    let local = Engine::new(&url(&server, transport)).unwrap().proxy(&format!("http://{}", proxy.address)).unwrap();
    works(&local, &app).await;
    assert!(proxy.asked().is_empty());
}

async fn tls_goes_through_a_proxy_and_to_one(transport: Transport) {
    let ca = Ca::new();
    let (chain, key) = ca.issue(&[HOST, "localhost"]);
    let tls = ServerTls::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let server = Server::dev().listen_tls("127.0.0.1:0".parse().unwrap(), tls).start().await.unwrap();
    let app = server.create_app("shop").await.unwrap();
    let engine_at = address(&url(&server, transport));
    let engine = Engine::new(&far(&server, transport)).unwrap().tls(ca.trusting());

    let proxy = Proxy::start(Does::Connects, engine_at, None).await;
    works(&engine.clone().proxy(&format!("http://{}", proxy.address)).unwrap(), &app).await;
    assert_eq!(proxy.asked().len(), 1);

    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let proxy = Proxy::start(Does::Connects, engine_at, Some(TlsAcceptor::from(Arc::new(config)))).await;
    let by_name = format!("https://localhost:{}", proxy.address.port());
    works(&engine.clone().proxy(&by_name).unwrap(), &app).await;
    assert_eq!(proxy.asked().len(), 1);
    // Its certificate counts, like an engine's.
    let wrong = format!("https://user:secret@{}", proxy.address);
    let error = refused(&engine.proxy(&wrong).unwrap(), &app).await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.to_string().contains(&format!("the proxy https://{}", proxy.address)), "{error}");
}

async fn refused(engine: &Engine, app: &NewApp) -> Error {
    let error = soon(engine.create_client(&app.app_key).into_future()).await.unwrap_err();
    assert!(!ensync_client::core::report(&error).contains("secret"), "{error:?}");
    error
}

async fn what_a_proxy_refuses_is_told_apart(transport: Transport) {
    let (server, app) = plain().await;
    let at = address(&url(&server, transport));
    for (does, part) in [
        (Does::Answers("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n"), "does not take this user"),
        (Does::Answers("HTTP/1.1 403 Blocked by policy\r\n\r\n<html>"), "HTTP 403 Blocked by policy"),
        (Does::Answers("HTTP/1.1 504 Gateway Timeout\r\n\r\n"), "it cannot reach engine.test:"),
        (Does::Answers("220 mail.example.com ESMTP\r\n\r\n"), "no HTTP proxy"),
        (Does::Answers(""), "closed the connection instead of answering"),
    ] {
        let proxy = Proxy::start(does, at, None).await;
        let through = format!("http://user:secret@{}", proxy.address);
        let error = refused(&Engine::new(&far(&server, transport)).unwrap().proxy(&through).unwrap(), &app).await;
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        let text = error.to_string();
        assert!(text.contains(part) && text.contains(&format!("the proxy http://{}", proxy.address)), "{text}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let engine = Engine::new(&far(&server, transport)).unwrap().proxy(&format!("http://{nobody}")).unwrap();
    let error = refused(&engine, &app).await;
    assert!(
        error.to_string().contains("the proxy cannot be reached: nobody listens there (is the proxy running"),
        "{error}"
    );
    // One that says nothing is let go of at the connection's deadline.
    let proxy = Proxy::start(Does::Nothing, at, None).await;
    let engine = Engine::new(&far(&server, transport)).unwrap().proxy(&format!("http://{}", proxy.address)).unwrap();
    let error = refused(&engine.connect_timeout(Duration::from_millis(200)), &app).await;
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
}

over_both!(
    a_proxy_leads_to_an_engine_whose_name_only_it_knows,
    tls_goes_through_a_proxy_and_to_one,
    what_a_proxy_refuses_is_told_apart,
);

const CHILD: &str = "ENSYNC_TEST_OF_THE_ENVIRONMENT";

/// The environment is a process's own, so this is a process of its own.
#[tokio::test]
async fn the_environment_names_the_proxy() {
    let (server, app) = plain().await;
    let proxy = Proxy::start(Does::Connects, address(&server.grpc_url()), None).await;
    let child = |variables: &[(&str, String)]| {
        let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "proxy::a_child_goes_where_its_environment_says", "--nocapture"]);
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"] {
            command.env_remove(name).env_remove(name.to_ascii_lowercase());
        }
        command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        command.env(CHILD, format!("{} {} {}", far(&server, Transport::Grpc), app.app_key.expose(), app.app_id));
        command.kill_on_drop(true).stdin(Stdio::null()).output()
    };
    let through = format!("http://{}", proxy.address);
    let done = soon(child(&[("http_proxy", through.clone())])).await.unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(proxy.asked().len(), 1);
    let direct: &[_] = &[("HTTP_PROXY", through), ("NO_PROXY", "test".to_owned())];
    let done = soon(child(direct)).await.unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    assert!(!done.status.success() && told.contains("does not resolve"), "{told}");
    assert!(proxy.asked().is_empty());
}

#[tokio::test]
async fn a_child_goes_where_its_environment_says() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let [url, app_key, app_id] = given.split(' ').collect::<Vec<_>>()[..] else { panic!("{given}") };
    let client = Engine::new(url).unwrap().create_client(app_key).await.unwrap();
    client.publish("orders/placed", &1).to(app_id).await.unwrap();
    client.close().await.unwrap();
}
