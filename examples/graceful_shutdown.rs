//! Graceful shutdown: on SIGTERM or Ctrl-C, or here after some events, the client stops taking events, lets its handlers finish and
//! acknowledge, flushes its publishes, hands back the rest, and says goodbye.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ensync_engine::Server;
use ensync_sdk::{Engine, Error, Event, Result};
use serde_json::json;
use tokio::sync::Notify;

const JOBS: &str = "jobs/render/requested";

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (studio, farm) = (server.create_app("studio").await?, server.create_app("farm").await?);
    let engine = Engine::new(&server.grpc_url())?.close_timeout(Duration::from_secs(10));
    let client = engine.create_client(&farm.app_key).app_secret_key(&farm.secret_key).await?;

    let (finished, enough) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let (count, signal) = (finished.clone(), enough.clone());
    let jobs = client.subscribe(JOBS).await?;
    let worker = jobs
        .for_each(move |event: Event| {
            let (count, signal) = (count.clone(), signal.clone());
            async move {
                signal.notify_one();
                tokio::time::sleep(Duration::from_millis(20)).await; // the work
                println!("rendered {}", event.json()?);
                count.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Error>(())
            }
        })
        .concurrency(4)
        .spawn();

    let sender = engine.create_client(&studio.app_key).await?;
    for frame in 0..20 {
        sender.publish(JOBS, &json!({"frame": frame})).to(farm.app_id).await?;
    }
    tokio::select! {
        signal = asked_to_stop() => println!("{signal}"),
        () = enough.notified() => println!("time to stop"),
    }
    // Handlers under way have finished when this returns; or it is an error, after `close_timeout`, that says how many have not.
    client.close().await?;
    worker.join().await?;

    // Nothing is lost: what was not rendered waits for the next worker.
    let waiting = server.queue(JOBS, farm.app_id).await?.map_or(0, |queue| queue.ready) as u64;
    println!("{} rendered, {waiting} waiting", finished.load(Ordering::Relaxed));
    assert_eq!(u64::from(finished.load(Ordering::Relaxed)) + waiting, 20);
    server.shutdown().await;
    Ok(())
}

/// What service managers send (SIGTERM), and what a terminal does (Ctrl-C).
async fn asked_to_stop() -> &'static str {
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = terminate => "SIGTERM",
        _ = tokio::signal::ctrl_c() => "Ctrl-C",
    }
}
