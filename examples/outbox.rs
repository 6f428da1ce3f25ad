//! A shop that goes on selling while the engine is away: events wait on disk. `cargo run --example outbox`
use std::time::Duration;

use ensync_engine::Server;
use ensync_sdk::{Attempts, Engine, Error, ErrorKind, Outbox, OutboxOptions, OutboxOutcome, Result};
use futures::StreamExt;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (shop, warehouse) = (server.create_app("shop").await?, server.create_app("warehouse").await?);
    let directory = tempfile::tempdir()
        .map_err(|cause| Error::new(ErrorKind::Unavailable, "no temporary directory").with_source(cause))?;
    let path = directory.path().join("shop.outbox");

    // One process: the engine cannot be reached, and the orders are taken nevertheless.
    let outbox = Outbox::open(&path, OutboxOptions::new().max_age(Duration::from_secs(3600))).await?;
    let away = Engine::new("grpc://127.0.0.1:1")?.retry_first_connect(true).max_reconnect_attempts(Attempts::Unlimited);
    let till = away.create_client(&shop.app_key).app_secret_key(&shop.secret_key).outbox(outbox.clone()).await?;
    for n in 1..=3 {
        till.publish("orders/placed", &json!({"order": n})).to(warehouse.app_id).queue().await?;
    }
    println!("on disk: {}", outbox.status().waiting);
    till.close().await?;
    outbox.close().await;

    // The next one: it sends what was left, in order, and tells what became of it.
    let outbox = Outbox::open(&path, OutboxOptions::new()).await?;
    let mut outcomes = outbox.outcomes();
    let engine = Engine::new(&server.grpc_url())?;
    let till = engine.create_client(&shop.app_key).app_secret_key(&shop.secret_key).outbox(outbox.clone()).await?;
    outbox.flush().await?;
    for _ in 1..=3 {
        match outcomes.next().await {
            Some(OutboxOutcome::Accepted { about, id }) => println!("{} is accepted as {id}", about.queued),
            Some(OutboxOutcome::Parked { about, why }) => println!("{} is refused: {why}", about.queued),
            other => println!("{other:?}"),
        }
    }

    till.close().await?;
    server.shutdown().await;
    Ok(())
}
