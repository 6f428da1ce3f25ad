//! The admin API of a running engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ensync_engine::AdminToken;
use http::{Request, Response, Uri, header};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

use super::Admin;
use crate::connection::{ClientCertificate, file};
use crate::exit::{Exit, Problem};
use crate::foreign::trimmed;
use crate::output::Failure;
use crate::variables::{self, Group};

/// How long a request may take. One that drops or requeues a long list of dead letters takes its time.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How long the engine may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes: a page of apps with thousands of grants each.
const MAX_ANSWER: u64 = 256 << 20;

pub(crate) struct Online {
    agent: Agent,
    url: String,
    authorization: Zeroizing<String>,
}

impl Online {
    pub(crate) fn new(admin: &Admin) -> Result<Self, Failure> {
        let url = &admin.admin_url;
        // First of all: a context that cannot be read is why the URL is not the one that is meant.
        variables::source(Group::Admin)?;
        check_url(url, admin.insecure).map_err(|why| {
            Problem::usage(format!("{}: {why}", variables::origin("--admin-url", "ENSYNC_ADMIN_URL")))
        })?;
        let token = token(admin.token_file.as_deref(), url)?;
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
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(TIMEOUT))
            .build();
        let authorization = Zeroizing::new(format!("Bearer {}", token.expose()));
        Ok(Self { agent: config.into(), url: url.trim_end_matches('/').to_owned(), authorization })
    }

    pub(crate) async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("{}{}", self.url, parts.uri).parse()?;
        let mut authorization = http::HeaderValue::from_str(&self.authorization)?;
        authorization.set_sensitive(true);
        parts.headers.insert(header::AUTHORIZATION, authorization);
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let answer = tokio::task::spawn_blocking(move || {
            let answer = agent.run(Request::from_parts(parts, body.to_vec()))?;
            let (parts, mut body) = answer.into_parts();
            let body = body.with_config().limit(MAX_ANSWER).read_to_vec()?;
            Ok::<_, ureq::Error>(Response::from_parts(parts, body.into()))
        });
        answer.await?.map_err(|cause| {
            let hint = "is an engine running, with its admin API there? --admin-url says where it is, and --data DIR goes \
                        without an engine";
            Problem::new(Exit::Unreachable, format!("cannot reach the admin API at {url}: {cause}; {hint}")).into()
        })
    }
}

/// Everything can be done with the token, so it does not go over a network that others can listen to.
pub(crate) fn check_url(url: &str, insecure: bool) -> Result<(), String> {
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
    let file = file.or_else(|| found.as_ref().filter(|found| found.name == names[0]).map(|found| found.value.as_ref()));
    if let Some(path) = file {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(|cause| Problem::usage(format!("cannot read the admin token in {shown}: {cause}")))?;
        return Ok(AdminToken::parse(trimmed(&text)).map_err(|error| Problem::at(shown, &error))?);
    }
    let Some(found) = found else {
        let missing = "no admin token: give --token-file DIR/admin.token with the engine's data directory, or set \
                       ENSYNC_ADMIN_TOKEN; or go without an engine: --data DIR";
        return Err(Problem::usage(missing).into());
    };
    let text = Zeroizing::new(found.value);
    Ok(AdminToken::parse(trimmed(&text)).map_err(|error| Problem::at(found.origin, &error))?)
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
            ("", ": "),
            ("https://user:pass@h", "user-info"),
            ("https://user:pa/ss@h", "user-info"),
        ] {
            let error = check_url(url, false).unwrap_err();
            assert!(error.contains(part) && !error.contains("pa"), "{error}");
        }
        check_url("http://h:1", true).unwrap();
    }
}
