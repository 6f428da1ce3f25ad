//! Thousands of hostile connections, and somebody who works meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ensync_engine::{ConnectionLimits, EventOptions, Server, ServerTls};
use fastrand::Rng;
use futures::StreamExt;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::sync::{Barrier, watch};

use crate::connections::{KINDS, Target, attack};
use crate::good::{EVENT, Good, Latencies};
use crate::{PANICS, count_panics, resident};

/// Hostile connections at a time.
const AT_ONCE: usize = 64;
/// What the process may grow by, in MiB: attackers and the well-behaved are in it too.
const GROWTH: usize = 256;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

async fn serve(directory: &std::path::Path) -> Server {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = ServerTls::from_pem(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes()).unwrap();
    let mut limits = ConnectionLimits::default();
    (limits.login_timeout, limits.tls_timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    let anywhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let server = Server::builder().data_dir(directory).listen(anywhere).listen_tls(anywhere, tls);
    let server = server.connection_limits(limits).start().await.unwrap();
    for name in [EVENT, "hostile/name"] {
        server.register_event(name, EventOptions::default()).await.unwrap();
    }
    server
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Before,
    During,
    Over,
}

/// Publishes, before and during.
async fn work(mut good: Good, mut phase: watch::Receiver<Phase>, quiet: Arc<Barrier>) -> (Good, Latencies, Latencies) {
    let (mut before, mut during) = (Latencies::default(), Latencies::default());
    // At full speed they would be a load of their own.
    let pause = || tokio::time::sleep(Duration::from_millis(2));
    for _ in 0..300 {
        good.publish(&mut before).await;
        pause().await;
    }
    quiet.wait().await;
    phase.wait_for(|phase| *phase != Phase::Before).await.unwrap();
    while *phase.borrow() == Phase::During {
        good.publish(&mut during).await;
        pause().await;
    }
    (good, before, during)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_hostile_connections_disturb_nobody() {
    count_panics();
    let connections = setting("ENSYNC_HOSTILE").unwrap_or(400);
    let seed = setting("ENSYNC_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{connections} hostile connections; ENSYNC_SEED={seed} repeats them");
    let directory = tempfile::TempDir::new().unwrap();
    let server = serve(directory.path()).await;
    let hostile = server.create_app("hostile").await.unwrap();
    let addresses: Vec<_> = server.addresses().collect();
    let target = Arc::new(Target {
        plain: addresses[0],
        tls: addresses[1],
        app_key: hostile.app_key,
        app_id: hostile.app_id.to_string(),
    });
    let (grpc, ws) = (server.grpc_url(), server.ws_url());
    let goods = [Good::start("gRPC", &server, &grpc, &ws).await, Good::start("WebSocket", &server, &ws, &grpc).await];
    let at_peace = server.connection_counts().open;

    // The same clients before and during, each publishing one event after the other.
    let (phases, phase) = watch::channel(Phase::Before);
    let quiet = Arc::new(Barrier::new(goods.len() + 1));
    let goods = goods.map(|good| tokio::spawn(work(good, phase.clone(), quiet.clone())));
    quiet.wait().await;

    let (begin, mut rng) = (Instant::now(), Rng::with_seed(seed));
    let (mut memory, mut kinds) = (vec![resident()], BTreeMap::<_, u64>::new());
    phases.send(Phase::During).unwrap();
    let only = std::env::var("ENSYNC_KIND").ok();
    let plan: Vec<_> = (0..connections)
        .map(|_| {
            // Stalls last, so there are few.
            let kind = if rng.u8(0..50) == 0 { "stalls" } else { KINDS[rng.usize(0..KINDS.len() - 1)] };
            let only = only.as_deref().and_then(|only| KINDS.into_iter().find(|kind| *kind == only));
            (only.unwrap_or(kind), rng.u64(..))
        })
        .collect();
    for quarter in plan.chunks(plan.len().div_ceil(4)) {
        let attacks = quarter.iter().map(|&(kind, seed)| {
            *kinds.entry(kind).or_default() += 1;
            tokio::spawn(attack(target.clone(), kind, seed))
        });
        let ended: Vec<_> = futures::stream::iter(attacks).buffer_unordered(AT_ONCE).collect().await;
        assert!(ended.iter().all(Result::is_ok), "an attacker failed");
        memory.push(resident());
    }
    let took = begin.elapsed();
    phases.send(Phase::Over).unwrap();
    for good in goods {
        let (good, mut before, mut during) = good.await.unwrap();
        println!("{:>9} before: {}", good.name, before.describe());
        println!("{:>9} during: {}", good.name, during.describe());
        println!("{:>9} of {} events published, all came", "", good.finish().await);
    }
    let counts = server.connection_counts();
    println!("{took:.1?} for {kinds:?}");
    println!("{counts:?}");
    println!("resident memory, MiB, at the beginning and after each quarter: {memory:?}");
    println!("{} panics", PANICS.load(Ordering::Relaxed));
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    assert!(memory.iter().all(|&mib| mib < memory[0] + GROWTH), "{memory:?}");
    assert!(counts.accepted > connections * 9 / 10, "{counts:?}");
    assert!(only.is_some() || counts.logins > 4 && counts.logins_refused > 0, "{counts:?}");
    // Nothing is left of them.
    let rest = async {
        while server.connection_counts().open > at_peace {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), rest).await.expect("connections are left");
}
