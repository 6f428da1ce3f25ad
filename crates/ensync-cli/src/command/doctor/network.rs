//! The way to an engine.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ensync_sdk::core::{Endpoint, report};
use ensync_sdk::{Client, Dialer, Error, ErrorKind, Keyring, SecretKey};
use futures::StreamExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::{Doctor, Findings, Status};
use crate::command::Outcome;
use crate::output::Failure;
use crate::variables::{self, Source};

/// How long a name may take to be resolved, and an address to be reached.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whom our event says that it is from.
const OURS: &str = "ensync doctor";
/// How long an event may take to come back.
const ROUND_TRIP: Duration = Duration::from_secs(15);
/// By how much the clocks may differ.
const SKEW: Duration = Duration::from_secs(30);
/// The most addresses of a name that are tried.
const ADDRESSES: usize = 8;
/// The most events of others that are held while ours is looked for.
const HELD: u32 = 1_000;

pub(super) async fn look(doctor: &Doctor, is_argument: bool, findings: &mut Findings) -> Outcome {
    let connection = &doctor.connection;
    let url = connection.url();
    // First of all: a context that cannot be read is why the engine is not the one that is meant.
    let from = match connection.from()? {
        _ if is_argument => "the command line".to_owned(),
        Source::Default => "the default".to_owned(),
        _ => variables::origin("ENSYNC_URL").to_string(),
    };
    let endpoint = match Endpoint::parse(url) {
        Ok(endpoint) => endpoint,
        Err(error) => return findings.add("address", Status::Failed, format!("{from}: {}", report(&error))),
    };
    findings.add("address", Status::Ok, format!("{endpoint}, from {from}"))?;
    // Behind a proxy this machine need not know the name.
    let severe = match Dialer::new().proxy_toward(&endpoint) {
        Ok(None) => Status::Failed,
        Ok(Some(proxy)) => {
            let text = format!("connections go through {proxy}, and what follows may be its doing");
            findings.add("proxy", Status::Warning, text)?;
            Status::Warning
        }
        Err(error) => {
            findings.add("proxy", Status::Failed, report(&error))?;
            Status::Warning
        }
    };
    let addresses = resolve(&endpoint, severe, findings).await?;
    reach(&addresses, severe, findings).await?;
    let secret = match doctor.secret.find_for(connection) {
        Ok(secret) => secret,
        Err(error) => {
            findings.add("secret key", Status::Failed, error.to_string())?;
            None
        }
    };
    let Some(client) = transports(doctor, &endpoint, secret.as_ref(), findings).await? else { return Ok(()) };
    key(&client, secret.as_ref(), findings)?;
    if let Some(name) = &doctor.event {
        match secret {
            Some(_) => round_trip(&client, name, findings).await?,
            None => findings.add("round trip", Status::Skipped, "it needs the secret key: set ENSYNC_SECRET_KEY")?,
        }
    }
    _ = client.close().await;
    Ok(())
}

async fn resolve(endpoint: &Endpoint, severe: Status, findings: &mut Findings) -> Result<Vec<SocketAddr>, Failure> {
    let (host, port) = (endpoint.host(), endpoint.port());
    let host = host.trim_matches(['[', ']']);
    if let Ok(address) = host.parse::<IpAddr>() {
        findings.add("name", Status::Ok, format!("{host} is an address"))?;
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let advice = "is it spelt right, and does this machine's resolver know it?";
    match timeout(PATIENCE, lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let found: Vec<_> = found.take(ADDRESSES).collect();
            let list: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
            findings.add("name", Status::Ok, format!("{host} is {}", list.join(", ")))?;
            Ok(found)
        }
        Ok(Err(cause)) => {
            findings.add("name", severe, format!("{host} does not resolve: {cause}; {advice}"))?;
            Ok(Vec::new())
        }
        Err(_) => {
            findings.add("name", severe, format!("{host}: no answer within {} s; {advice}", PATIENCE.as_secs()))?;
            Ok(Vec::new())
        }
    }
}

async fn reach(addresses: &[SocketAddr], severe: Status, findings: &mut Findings) -> Outcome {
    if addresses.is_empty() {
        return findings.add("tcp", Status::Skipped, "there is no address to try");
    }
    let (mut reached, mut failed) = (Vec::new(), Vec::new());
    for address in addresses {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => reached.push(address.to_string()),
            Ok(Err(cause)) => failed.push(format!("{address}: {cause}")),
            Err(_) => failed.push(format!("{address}: no answer within {} s", PATIENCE.as_secs())),
        }
    }
    let (reached, failed, all) = (reached.join(", "), failed.join("; "), failed.is_empty());
    match (reached.as_str(), all) {
        (_, true) => findings.add("tcp", Status::Ok, format!("{reached} can be reached")),
        ("", false) => {
            let advice = "is the engine running, and does a firewall let this machine through?";
            findings.add("tcp", severe, format!("{failed}; {advice}"))
        }
        (_, false) => findings.add("tcp", Status::Warning, format!("{reached} can be reached, but {failed}")),
    }
}

/// Tries both transports, and gives the client of the one that the URL names, or else of the other.
async fn transports(
    doctor: &Doctor,
    endpoint: &Endpoint,
    secret: Option<&Keyring>,
    findings: &mut Findings,
) -> Result<Option<Client>, Failure> {
    // Once: a command may print it, and ask for a password each time.
    let app_key = match doctor.connection.app_key() {
        Ok(Some((key, _))) => key,
        Ok(None) => {
            let text = "no app key: set ENSYNC_APP_KEY, and the transports and the login are tried too; until then it is not known what listens there";
            findings.add("login", Status::Skipped, text)?;
            return Ok(None);
        }
        Err(error) => {
            findings.add("login", Status::Failed, format!("there is no app key to log in with: {error}"))?;
            return Ok(None);
        }
    };
    let schemes = if endpoint.tls() { ["grpcs", "wss"] } else { ["grpc", "ws"] };
    let named = endpoint.to_string();
    let (mut clients, mut refused, mut failures) = (Vec::new(), None, Vec::new());
    for (scheme, check) in schemes.into_iter().zip(["gRPC", "WebSocket"]) {
        // A path is the WebSocket's.
        let path = if scheme.starts_with("ws") && named.starts_with("ws") { endpoint.path() } else { "" };
        let url = format!("{scheme}://{}{path}", endpoint.authority());
        match doctor.connection.connect_as(&app_key, &url, secret.cloned()).await {
            Ok(client) => {
                findings.add(check, Status::Ok, format!("{url} works"))?;
                clients.push((named.starts_with(&format!("{scheme}:")), client));
            }
            Err(error) => match error.downcast_ref::<Error>().map(Error::kind) {
                Some(ErrorKind::Unauthenticated | ErrorKind::Forbidden) => {
                    findings.add(check, Status::Ok, format!("{url} works, as far as the login"))?;
                    refused = Some(error.to_string());
                }
                _ => failures.push((check, named.starts_with(&format!("{scheme}:")), report(&*error))),
            },
        }
    }
    for (check, is_named, why) in failures {
        let severe =
            if is_named || (clients.is_empty() && refused.is_none()) { Status::Failed } else { Status::Warning };
        findings.add(check, severe, why)?;
    }
    if let Some(why) = refused {
        findings.add("login", Status::Failed, format!("{why}; is it the key of this engine, and was it changed?"))?;
    }
    clients.sort_by_key(|(named, _)| !named);
    let mut clients = clients.into_iter().map(|(_, client)| client);
    let client = clients.next();
    for other in clients {
        _ = other.close().await;
    }
    if let Some(client) = &client {
        let app = client.app_id().map_or_else(|| "an app".to_owned(), |id| format!("the app {id}"));
        findings.add("login", Status::Ok, format!("as {app}"))?;
    }
    Ok(client)
}

fn key(client: &Client, secret: Option<&Keyring>, findings: &mut Findings) -> Outcome {
    let Some(own) = secret.and_then(Keyring::current).and_then(SecretKey::app_id) else {
        return findings.add("secret key", Status::Skipped, "none is given: set ENSYNC_SECRET_KEY to receive events");
    };
    match client.app_id() {
        Some(app) if app == own => findings.add("secret key", Status::Ok, "it is the app's"),
        Some(app) => {
            let text = format!(
                "it is that of {own}, and the app's is {app}: what is sent to the app cannot be opened with it"
            );
            findings.add("secret key", Status::Failed, text)
        }
        None => findings.add("secret key", Status::Skipped, "the engine does not say whose app key it is"),
    }
}

/// Sends the app an event of its own, and receives it.
async fn round_trip(client: &Client, name: &str, findings: &mut Findings) -> Outcome {
    let Some(app) = client.app_id() else {
        return findings.add("round trip", Status::Skipped, "the engine does not say which app this is");
    };
    let payload = serde_json::json!({"from": OURS});
    let begun = SystemTime::now();
    let (mut held, mut own) = (Vec::new(), None);
    let tried = async {
        let mut events = client.subscribe(name).max_in_flight(HELD).await?;
        let receipt = client.publish(name, &payload).to(app).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            let read = event.json();
            if event.id() == receipt.id() {
                let at = event.timestamp();
                own = Some(event);
                return read.map(|_| at);
            }
            match read {
                // What an earlier look left.
                Ok(read) if read == payload => event.ack().await?,
                _ => held.push(event),
            }
        }
        Err(Error::new(ErrorKind::Closed, "the subscription ended"))
    };
    let came = timeout(ROUND_TRIP, tried).await;
    // Nobody shall get ours some day, and the others theirs now.
    let back = async {
        if let Some(event) = own {
            _ = event.ack().await;
        }
        for event in held {
            _ = event.rollback().await;
        }
    };
    _ = timeout(ROUND_TRIP, back).await;
    let at = match came {
        Ok(Ok(at)) => at,
        Ok(Err(error)) => {
            let advice = match error.kind() {
                ErrorKind::UnknownEvent => "; `ensync event create` registers it",
                _ => "",
            };
            return findings.add("round trip", Status::Failed, format!("{}{advice}", report(&error)));
        }
        Err(_) => {
            let text =
                format!("the event did not come back within {} s; do others read {name} too?", ROUND_TRIP.as_secs());
            return findings.add("round trip", Status::Failed, text);
        }
    };
    let took = begun.elapsed().unwrap_or_default();
    findings.add("round trip", Status::Ok, format!("{} ms", took.as_millis()))?;
    let Some(at) = at.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_millis(at.as_millis()))) else {
        return findings.add("clock", Status::Skipped, "the engine does not say when it accepted the event");
    };
    let skew = at.duration_since(begun).unwrap_or_else(|early| early.duration());
    let text = format!("this machine's and the engine's differ by {:.1} s", skew.as_secs_f64());
    match skew > SKEW.saturating_add(took) {
        false => findings.add("clock", Status::Ok, text),
        true => findings.add(
            "clock",
            Status::Warning,
            format!("{text}: certificates and times to live suffer; run NTP on both"),
        ),
    }
}
