//! The admin API of a running engine.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensync_engine::AdminToken;
use ensync_sdk::AppKey;
use ensync_sdk::core::ClientId;
use http::{Method, Request, Response, StatusCode, Uri, header};
use tokio::sync::mpsc;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Timeout};
use zeroize::Zeroizing;

use super::Admin;
use crate::connection::{ClientCertificate, file};
use crate::exit::{Exit, Problem};
use crate::foreign::trimmed;
use crate::output::Failure;
use crate::variables::{self, Found, Group};

/// How long the parts of a request may take.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// To reach the engine: its name, TCP, TLS, and what is sent to it.
    reached: Duration,
    /// Until an answer begins.
    begun: Duration,
    /// The same for what takes its time: an app with all that was sent to it, a queue, a long list of dead letters.
    long: Duration,
}

/// An engine that is there answers a look within 10 s, if only to say that it cannot: its words come before these.
const TIMES: Times =
    Times { reached: Duration::from_secs(10), begun: Duration::from_secs(12), long: Duration::from_secs(300) };
/// How long an engine that is followed may say nothing. It says each 15 s that it is there.
const SILENT: Duration = Duration::from_secs(30);
/// The largest of the things that it tells then, in bytes, and how many may wait.
const MAX_EVENT: u64 = 64 << 10;
const FOLLOWED: usize = 4;
/// The largest answer that is read, in bytes: a page of apps with thousands of grants each.
const MAX_ANSWER: u64 = 256 << 20;
/// The largest file that is read for a token, in bytes.
const MAX_TOKEN_FILE: usize = 4_096;

pub(crate) struct Online {
    agent: Agent,
    url: String,
    authorization: Zeroizing<String>,
    times: Times,
}

impl Online {
    pub(crate) fn new(admin: &Admin) -> Result<Self, Failure> {
        let url = &admin.admin_url;
        // First of all: a context that cannot be read is why the URL is not the one that is meant.
        let from = variables::source(Group::Admin)?;
        check_url(url, admin.insecure)
            .map_err(|why| Problem::usage(format!("{}: {why}", variables::origin("ENSYNC_ADMIN_URL"))))?;
        let token = token(admin.token_file.as_deref(), url)?;
        variables::tell_unused(Group::Admin, from, url);
        let identity = admin.identity.read()?.map(client_certificate).transpose()?;
        let roots = match &admin.admin_ca {
            Some(path) => RootCerts::new_with_certs(&certificates(path)?),
            None => RootCerts::PlatformVerifier,
        };
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(roots)
            .client_cert(identity)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            // The token is for the engine: not for a proxy, and not for whom an answer might name.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_resolve(Some(TIMES.reached))
            .timeout_connect(Some(TIMES.reached))
            .timeout_send_request(Some(TIMES.reached))
            .timeout_send_body(Some(TIMES.reached))
            .timeout_recv_body(Some(TIMES.long))
            .build();
        let authorization = Zeroizing::new(format!("Bearer {}", token.expose()));
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.into(), url, authorization, times: TIMES })
    }

    pub(crate) async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        let long = is_long(&request);
        if long {
            // So long only for one that answers at all.
            self.ask(Request::get("/healthz").body(Bytes::new())?, self.times.begun).await?;
        }
        self.ask(request, if long { self.times.long } else { self.times.begun }).await
    }

    async fn ask(&self, request: Request<Bytes>, begun: Duration) -> Result<Response<Bytes>, Failure> {
        let times = Times { begun, ..self.times };
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("{}{}", self.url, parts.uri).parse()?;
        let mut authorization = http::HeaderValue::from_str(&self.authorization)?;
        authorization.set_sensitive(true);
        parts.headers.insert(header::AUTHORIZATION, authorization);
        let (agent, url, changes) = (self.agent.clone(), self.url.clone(), !parts.method.is_safe());
        let answer = tokio::task::spawn_blocking(move || {
            let request = agent.configure_request(Request::from_parts(parts, body.to_vec()));
            let answer = agent.run(request.timeout_recv_response(Some(begun)).build())?;
            let (parts, mut body) = answer.into_parts();
            let body = body.with_config().limit(MAX_ANSWER).read_to_vec()?;
            Ok::<_, ureq::Error>(Response::from_parts(parts, body.into()))
        });
        answer.await?.map_err(|cause| {
            let done = match changes && !was_not_sent(&cause) {
                true => "; what was asked for may be done all the same: look before you repeat it",
                false => "",
            };
            let hint = "is an engine running, with its admin API there? --admin-url says where it is, and --data DIR goes \
                        without an engine";
            let why = why(&cause, times);
            Problem::new(Exit::Unreachable, format!("cannot reach the admin API at {url}: {why}{done}; {hint}")).into()
        })
    }
}

impl Online {
    /// Follows what the engine tells on and on, as Server-Sent Events, in a thread of its own.
    pub(super) fn follow(&self, path: &str) -> Result<mpsc::Receiver<Told>, Failure> {
        let mut authorization = http::HeaderValue::from_str(&self.authorization)?;
        authorization.set_sensitive(true);
        let request =
            Request::get(format!("{}{path}", self.url)).header(header::AUTHORIZATION, authorization).body(())?;
        let (agent, url, times) = (self.agent.clone(), self.url.clone(), self.times);
        let (sender, told) = mpsc::channel(FOLLOWED);
        std::thread::Builder::new().name("ensync-follow".into()).spawn(move || {
            let request = agent.configure_request(request).timeout_recv_response(Some(times.begun));
            let answer = agent.run(request.timeout_recv_body(None).timeout_per_read(Some(SILENT)).build());
            let (parts, mut body) = match answer {
                Ok(answer) => answer.into_parts(),
                Err(cause) => {
                    _ = sender.blocking_send(Told::Lost(format!("{url}: {}", why(&cause, times))));
                    return;
                }
            };
            if !parts.status.is_success() {
                let said = body.with_config().limit(MAX_EVENT).read_to_vec().unwrap_or_default();
                _ = sender.blocking_send(Told::Refused(parts.status, said));
                return;
            }
            let mut reader = BufReader::new(body.into_reader());
            loop {
                let mut line = Vec::new();
                let read = (&mut reader).take(MAX_EVENT).read_until(b'\n', &mut line);
                let told = match read {
                    Ok(0) => return,
                    Ok(_) => match line.strip_prefix(b"data: ") {
                        Some(data) => Told::Data(data.to_owned()),
                        None => continue,
                    },
                    Err(cause) => Told::Lost(format!("{url}: {cause}")),
                };
                let lost = matches!(told, Told::Lost(_));
                if sender.blocking_send(told).is_err() || lost {
                    return;
                }
            }
        })?;
        Ok(told)
    }
}

/// What is told to whoever follows.
pub(super) enum Told {
    Data(Vec<u8>),
    /// It was refused, in words that the engine says.
    Refused(StatusCode, Vec<u8>),
    /// The connection was not made, or is lost.
    Lost(String),
}

/// Whether the engine may take its time over a request.
fn is_long(request: &Request<Bytes>) -> bool {
    let path = request.uri().path();
    match *request.method() {
        Method::POST => ["/purge", "/requeue", "/drop"].iter().any(|end| path.ends_with(end)),
        Method::DELETE => path.strip_prefix("/v1/apps/").is_some_and(|rest| !rest.contains('/')),
        _ => false,
    }
}

/// Whether nothing of a request has left this machine.
fn was_not_sent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Timeout(at) => matches!(at, Timeout::Resolve | Timeout::Connect | Timeout::SendRequest),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => true,
        ureq::Error::Io(cause) => cause.kind() == io::ErrorKind::ConnectionRefused || tls(cause).is_some(),
        _ => false,
    }
}

/// Why there is no answer.
fn why(error: &ureq::Error, times: Times) -> String {
    let shown = humantime::format_duration;
    match error {
        ureq::Error::Timeout(Timeout::RecvResponse) => format!("it did not answer within {}", shown(times.begun)),
        ureq::Error::Timeout(Timeout::RecvBody) => format!("its answer did not end within {}", shown(times.long)),
        ureq::Error::Timeout(_) => format!("it did not let us in within {}", shown(times.reached)),
        ureq::Error::HostNotFound => "no host has that name".to_owned(),
        ureq::Error::Io(cause) => match tls(cause) {
            Some(rustls::Error::InvalidMessage(_)) => {
                "the port does not speak TLS; write http:// if plaintext is meant".to_owned()
            }
            Some(why) => format!("TLS: {why}"),
            None if cause.kind() == io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
            None => cause.to_string(),
        },
        ureq::Error::Protocol(_) => "what answers does not speak HTTP; write https:// if it has TLS".to_owned(),
        other => other.to_string(),
    }
}

/// What TLS said, if it was that.
fn tls(cause: &io::Error) -> Option<&rustls::Error> {
    cause.get_ref()?.downcast_ref()
}

/// Everything can be done with the token, so it does not go over a network that others can listen to.
pub(crate) fn check_url(url: &str, insecure: bool) -> Result<(), String> {
    if url.is_empty() {
        return Err("it is empty".into());
    }
    // What stands before an '@' is a name and a password: never repeated, and of no use here.
    if url.contains('@') {
        return Err("it holds user-info before '@'; the admin token is given with --token-file".into());
    }
    let uri: Uri = url.parse().map_err(|cause| format!("{url}: {cause}"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if loopback || insecure => Ok(()),
        Some("http") => {
            let why =
                "the admin token would go over the network in clear; use https://, or --insecure if nobody can listen";
            Err(format!("{url}: {why}"))
        }
        _ => Err(format!("{url}: write it as https://HOST:PORT, or http://127.0.0.1:50052")),
    }
}

/// The token that is for the engine at `url`: in a file that a flag names, else in one that a variable names, or in a variable.
fn token(file: Option<&Path>, url: &str) -> Result<AdminToken, Failure> {
    let names = ["ENSYNC_ADMIN_TOKEN_FILE", "ENSYNC_ADMIN_TOKEN"];
    let from = variables::source(Group::Admin)?;
    let found = match file {
        Some(_) => variables::check_typed("--token-file", Group::Admin, from).map(|()| None)?,
        None => variables::keyed(&names, Group::Admin, from, url)?,
    };
    let in_file = |found: &&Found| found.name == names[0];
    let file = file.or_else(|| found.as_ref().filter(in_file).map(|found| Path::new(found.value.as_str())));
    if let Some(path) = file {
        return Ok(read_token(&token_in(path)?, path.display())?);
    }
    let Some(found) = found else {
        let missing = "no admin token: give --token-file DIR/admin.token with the engine's data directory, or set \
                       ENSYNC_ADMIN_TOKEN (to what `ensync serve --dev` printed when it started); or go without an engine: --data DIR";
        return Err(Problem::usage(missing).into());
    };
    Ok(read_token(&found.value, found.origin)?)
}

/// What a file says that holds a token, in memory that does not grow.
fn token_in(path: &Path) -> Result<Zeroizing<String>, Problem> {
    let unreadable = |cause: &dyn fmt::Display| {
        Problem::usage(format!("cannot read the admin token in {}: {cause}", path.display()))
    };
    let mut text = Zeroizing::new(String::with_capacity(MAX_TOKEN_FILE + 64));
    let read = File::open(path).and_then(|file| file.take(MAX_TOKEN_FILE as u64 + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length > MAX_TOKEN_FILE => Err(unreadable(&format!("it has more than {MAX_TOKEN_FILE} bytes"))),
        Ok(_) => Ok(text),
        Err(cause) => Err(unreadable(&cause)),
    }
}

/// A token, before it is sent to anybody. It may have a form of its own, for a program that embeds an engine makes it; but not that of
/// something else.
fn read_token(text: &str, place: impl fmt::Display) -> Result<AdminToken, Problem> {
    let text = trimmed(text);
    let other = [(AppKey::PREFIX, "an app key"), (ClientId::PREFIX, "a session's client id")];
    if let Some((_, what)) = other.iter().find(|(prefix, _)| text.starts_with(prefix)) {
        return Err(Problem::usage(format!(
            "{place} holds {what}, where an admin token belongs; that begins with \"ensync_admin\""
        )));
    }
    AdminToken::parse(text)
        .map_err(|error| Problem::at(format_args!("{place} (a token begins with \"ensync_admin\")"), &error))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    in_pem(&file(path, "--admin-ca")?, &path.display().to_string()).map_err(Failure::from)
}

fn in_pem(pem: &[u8], place: &str) -> Result<Vec<Certificate<'static>>, Problem> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|cause| Problem::usage(format!("{place}: {cause}")))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(Problem::usage(format!("{place} holds no certificate"))) } else { Ok(found) }
}

fn client_certificate(own: ClientCertificate) -> Result<ClientCert, Failure> {
    let chain = in_pem(&own.chain, &own.place)?;
    let key = PrivateKey::from_pem(&own.key);
    let key = key.map_err(|_| Problem::usage(format!("{}: the private key is none in PEM", own.place)))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that accepts, and says nothing.
    fn silent() -> (std::net::TcpListener, Online) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let agent = Agent::config_builder().proxy(None).build().into();
        let times = Times { begun: Duration::from_millis(100), ..TIMES };
        (listener, Online { agent, url, authorization: Zeroizing::new("Bearer x".to_owned()), times })
    }

    #[tokio::test]
    async fn whoever_does_not_answer_is_not_waited_for() {
        let (_listener, online) = silent();
        let ask = async |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
            tokio::time::timeout(Duration::from_secs(30), online.call(request)).await.unwrap().unwrap_err().to_string()
        };
        let said = ask(Method::GET, "/v1/apps").await;
        assert!(said.contains(": it did not answer within 100ms; is an engine running"), "{said}");
        // What was sent may be done.
        let said = ask(Method::POST, "/v1/apps").await;
        assert!(said.contains("within 100ms; what was asked for may be done all the same"), "{said}");
        // Nor for what may take long: that is not asked for at all.
        let said = ask(Method::POST, "/v1/queues/a/b/purge").await;
        assert!(said.contains("within 100ms; is an engine running"), "{said}");
    }

    #[test]
    fn what_may_take_long_is_known() {
        for (method, path, long) in [
            (Method::GET, "/v1/apps", false),
            (Method::POST, "/v1/apps", false),
            (Method::DELETE, "/v1/apps/ab%2Fc", true),
            (Method::DELETE, "/v1/apps/abc/grants/x", false),
            (Method::POST, "/v1/queues/a/b/purge", true),
            (Method::POST, "/v1/dead-letters/drop", true),
            (Method::POST, "/v1/dead-letters/requeue", true),
        ] {
            let request = Request::builder().method(&method).uri(path).body(Bytes::new()).unwrap();
            assert_eq!(is_long(&request), long, "{method} {path}");
        }
    }

    #[test]
    fn the_token_stays_on_the_machine_without_tls() {
        for url in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://h:1", "https://h"] {
            check_url(url, false).unwrap();
        }
        for (url, part) in [
            ("http://h:1", "in clear"),
            ("http://localhost.evil.com:1", "in clear"),
            ("http://10.0.0.1", "in clear"),
            ("127.0.0.1:50052", "write it as"),
            ("ftp://h", "write it as"),
            ("", "it is empty"),
            ("https://user:pass@h", "user-info"),
            ("https://user:pa/ss@h", "user-info"),
        ] {
            let error = check_url(url, false).unwrap_err();
            assert!(error.contains(part) && !error.contains("pa"), "{error}");
        }
        check_url("http://h:1", true).unwrap();
    }
}
