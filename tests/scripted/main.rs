//! What clients promise, against an engine that misbehaves on purpose: every behaviour over real sockets and both transports, every
//! promise looked at, and printed as a table.

mod abandoned;
#[path = "../allocated.rs"]
mod allocated;
mod engine;
mod many;
mod turned_away;
mod wire;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use allocated::held;
use engine::{Behaviour, EVENT, Received, Script};
use ensync_client::{Attempts, Custom, Dialer, Engine, Transports};
use ensync_core::{Connector, Endpoint};
use ensync_ws::WsConnector;
use futures::StreamExt;

/// How many events are published.
const EVENTS: u64 = 60;
/// How many at a time.
const AT_A_TIME: usize = 8;
/// How long nothing may happen before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// The deadline of a call, and of `close()`.
const DEADLINE: Duration = Duration::from_secs(6);
const CLOSE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Over {
    Both,
    Grpc,
    WebSocket,
}

/// A behaviour is one line.
const ROWS: &[(Over, Behaviour)] = &[
    (Over::Both, Behaviour::Well),
    (Over::Both, Behaviour::NeverAnswers(20)),
    (Over::Both, Behaviour::AnswersLate(20, Duration::from_millis(300))),
    (Over::WebSocket, Behaviour::AnswersOutOfTurn(20)),
    (Over::Both, Behaviour::ClosesAfter(25)),
    (Over::Grpc, Behaviour::ResetsStreams(7)),
    (Over::Grpc, Behaviour::GivesBackWhatItDid(10)),
    (Over::Both, Behaviour::GoesAway(25)),
    (Over::Both, Behaviour::RefusesLogins(3, "Service restarting, try again")),
    (Over::Both, Behaviour::RefusesLoginsByHttp(3, 503)),
    (Over::Both, Behaviour::RefusesLoginsByHttp(3, 403)),
    (Over::Both, Behaviour::RefusesLoginsByHttp(3, 401)),
    (Over::Both, Behaviour::ForgetsTheSession(20)),
    (Over::Both, Behaviour::IgnoresPause),
    (Over::Both, Behaviour::KnowsNoExtension),
    (Over::Both, Behaviour::SendsUnknownNames),
    (Over::Both, Behaviour::SendsWrongIds),
    (Over::Both, Behaviour::SendsWhatIsTooLarge),
    (Over::Both, Behaviour::RefusesForEver),
    (Over::Both, Behaviour::SendsSlowly),
];

/// What is looked at, in this order.
const PROMISES: [&str; 7] = ["Ok is stored", "none lost", "none twice", "goes on", "closes", "tasks", "memory"];

/// How many bytes more than before may be held after a client's life, engine included: what libraries keep for good.
const KEPT: usize = 256 << 10;

/// Memory is counted for the whole process, so one test at a time measures it.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Seen {
    line: String,
    broken: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_whatever_the_engine_does() {
    let _alone = ALONE.lock().await;
    // What is kept for good is made by the first client of each transport.
    for transport in [Over::Grpc, Over::WebSocket] {
        try_it(transport, Behaviour::Well).await;
    }
    let mut table = format!("{:<52} {}\n", "the engine", PROMISES.join(" | "));
    let mut broken = Vec::new();
    for (over, behaviour) in ROWS {
        for transport in [Over::Grpc, Over::WebSocket] {
            if *over == transport || *over == Over::Both {
                let seen = try_it(transport, *behaviour).await;
                table.push_str(&seen.line);
                broken.extend(seen.broken);
            }
        }
    }
    println!("{table}");
    assert!(broken.is_empty(), "{table}\n{}", broken.join("\n"));
}

async fn try_it(over: Over, behaviour: Behaviour) -> Seen {
    let bytes = held();
    let script = Script::new(behaviour);
    let (scheme, (authority, accepting)) = match over {
        Over::Grpc => ("grpc", wire::grpc(script.clone()).await),
        _ => ("ws", wire::web_socket(script.clone()).await),
    };
    let endpoint: Endpoint = format!("{scheme}://{authority}").parse().unwrap();
    let connector: Arc<dyn Connector> = match over {
        Over::Grpc => ensync_grpc::Grpc::connector(&endpoint, Dialer::default()).unwrap(),
        _ => Arc::new(WsConnector::new(Dialer::default()).answer_timeout(Duration::from_millis(800))),
    };
    let before = tasks();
    let (accepted, received, ended, published, closed) = live(endpoint, connector, &script).await;
    let stored = script.stored();
    let settled = settle_to(before).await;
    accepting.abort();
    _ = accepting.await;
    let (deduplicates, logins, script_pauses) = (script.deduplicates(), script.logins(), script.pauses());
    drop(script);
    let kept = held_again(bytes + KEPT).await.saturating_sub(bytes);

    let not_stored: Vec<_> = accepted.iter().filter(|n| !stored.contains_key(n)).collect();
    let lost: Vec<_> = stored.keys().filter(|n| !received.contains(n)).collect();
    let twice: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).collect();
    let refused = match behaviour {
        Behaviour::RefusesForEver | Behaviour::GivesBackWhatItDid(_) => EVENTS / 10,
        _ => 0,
    };
    // What may have been stored is not repeated where nobody would notice that it was there already.
    let once = deduplicates || matches!(behaviour, Behaviour::GivesBackWhatItDid(_));
    let may_end = behaviour == Behaviour::SendsWhatIsTooLarge;
    let paced = !is_slow(behaviour) || script_pauses > 0;
    let promises = [
        not_stored.is_empty().then_some(()).ok_or(format!("{not_stored:?} were told Ok")),
        // A stream that ended with its reason has said so, where there is one.
        (lost.is_empty() || (ended.is_some() && may_end)).then_some(()).ok_or(format!("{lost:?} did not come")),
        (twice.is_empty() || !once).then_some(()).ok_or(format!("{twice:?} were stored twice")),
        // A floor: without it a client that does nothing keeps every promise.
        (published + refused + 4 >= EVENTS && (ended.is_none() || may_end) && paced)
            .then_some(())
            .ok_or(format!("{published} were published, the stream ended: {ended:?}, paced: {paced}")),
        (closed <= CLOSE + Duration::from_secs(1)).then_some(()).ok_or(format!("it took {closed:?}")),
        settled.then_some(()).ok_or(format!("{} tasks, {before} before", tasks())),
        (kept <= KEPT).then_some(()).ok_or(format!("{kept} bytes are kept")),
    ];
    let name: String = format!("{over:?} {behaviour:?}").chars().take(52).collect();
    let marks: Vec<_> = PROMISES
        .iter()
        .zip(&promises)
        .map(|(promise, kept)| format!("{:^width$}", if kept.is_ok() { "yes" } else { "NO" }, width = promise.len()))
        .collect();
    let line = format!("{name:<52} {}  {published} of {EVENTS}, {logins} logins, {kept} bytes\n", marks.join(" | "));
    let broken = PROMISES.iter().zip(promises);
    let broken = broken.filter_map(|(promise, kept)| Some(format!("{name}: {promise}: {}", kept.err()?))).collect();
    Seen { line, broken }
}

/// Whether the reader is slower than the events come, so that the engine is asked to pause.
fn is_slow(behaviour: Behaviour) -> bool {
    matches!(behaviour, Behaviour::IgnoresPause | Behaviour::KnowsNoExtension)
}

type Lived = (HashSet<u64>, Received, Option<String>, u64, Duration);

/// A client's life: it publishes to itself, subscribes, and closes.
async fn live(endpoint: Endpoint, connector: Arc<dyn Connector>, script: &Arc<Script>) -> Lived {
    let engine: Engine<Custom> = Engine::with_connector(endpoint, connector)
        .heartbeat_interval(Duration::from_millis(400))
        .reconnect_interval(Duration::from_millis(10))
        .max_reconnect_attempts(Attempts::Unlimited)
        .retry_first_connect(true)
        .request_timeout(DEADLINE)
        .close_timeout(CLOSE);
    let client = engine.create_client("key").app_secret_key(&script.key).await.unwrap();
    let (received, ended): (Arc<Mutex<Received>>, Arc<Mutex<Option<String>>>) = Default::default();
    let slow = is_slow(script.behaviour);
    let (sink, end, subscriber) = (received.clone(), ended.clone(), client.clone());
    let reader = tokio::spawn(async move {
        let window = if slow { 4 } else { 256 };
        let mut events = match subscriber.subscribe(EVENT).max_in_flight(window).await {
            Ok(events) => events,
            Err(error) => return *end.lock().unwrap() = Some(ensync_core::report(&error)),
        };
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if let Ok(json) = event.json() {
                        sink.lock().unwrap().insert(json["n"].as_u64().unwrap());
                    }
                    if slow {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    // It may be another session's by now; then it comes again.
                    _ = event.ack().await;
                }
                Err(error) => *end.lock().unwrap() = Some(ensync_core::report(&error)),
            }
        }
    });
    let results: Vec<_> = futures::stream::iter(0..EVENTS)
        .map(|n| {
            let client = client.clone();
            async move {
                let publish = client.publish(EVENT, &serde_json::json!({"n": n})).to(script.app_id);
                (n, publish.header("n", n.to_string()).await.is_ok())
            }
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    let accepted: HashSet<u64> = results.iter().filter(|(_, ok)| *ok).map(|(n, _)| *n).collect();
    // All that is stored is to come, unless the stream says why not.
    let (mut since, mut seen) = (Instant::now(), 0);
    loop {
        let (have, over) = (received.lock().unwrap().len(), ended.lock().unwrap().is_some());
        if over || have >= script.stored().len() || since.elapsed() > PATIENCE {
            break;
        }
        if have != seen {
            (since, seen) = (Instant::now(), have);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    _ = client.close().await;
    let closed = begun.elapsed();
    reader.abort();
    _ = reader.await;
    let (received, ended) = (received.lock().unwrap().clone(), ended.lock().unwrap().clone());
    let published = accepted.len() as u64;
    (accepted, received, ended, published, closed)
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until no more bytes are held than that, for a while; says how many are.
async fn held_again(most: usize) -> usize {
    for _ in 0..300 {
        if held() <= most {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    held()
}

/// Waits until there are no more tasks than before.
async fn settle_to(before: usize) -> bool {
    for _ in 0..500 {
        if tasks() <= before {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
