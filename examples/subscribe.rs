//! Subscribing with manual settlement: each payment is acknowledged, deferred or discarded, as it deserves.
use std::time::Duration;

use ensync_engine::Server;
use ensync_sdk::{Engine, Event, Result};
use futures::TryStreamExt;
use serde::Deserialize;
use serde_json::json;

const PAYMENTS: &str = "payments/completed";

#[derive(Deserialize)]
struct Payment {
    order_id: String,
    amount: f64,
}

async fn handle(event: &Event) -> Result<&'static str> {
    // A payload that is no Payment never will be one.
    let Ok(payment) = event.payload::<Payment>() else {
        event.discard("invalid payment data").await?;
        return Ok("discarded");
    };
    // Stands for work that fails for now: a first attempt at a large amount.
    if payment.amount > 1_000.0 && event.attempt() == Some(1) {
        event.defer(Duration::from_secs(1), "the bank is slow today").await?;
        return Ok("deferred");
    }
    println!("{} paid", payment.order_id);
    event.ack().await?;
    Ok("acked")
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (bank, books) = (server.create_app("bank").await?, server.create_app("books").await?);
    let engine = Engine::new(&server.ws_url())?;
    let client = engine.create_client(&books.app_key).app_secret_key(&books.secret_key).await?;
    let mut payments = client.subscribe(PAYMENTS).await?;

    let sender = engine.create_client(&bank.app_key).await?;
    let payment = |id: &str, amount: f64| json!({"order_id": id, "amount": amount});
    for payload in [payment("o-1", 9.99), payment("o-2", 5_000.0), json!("rubbish")] {
        sender.publish(PAYMENTS, &payload).to(books.app_id).await?;
    }

    let mut outcomes = Vec::new();
    while outcomes.len() < 4 {
        let Some(event) = payments.try_next().await? else { break };
        outcomes.push(handle(&event).await?);
    }
    assert_eq!(outcomes, ["acked", "deferred", "discarded", "acked"], "the deferred payment came again");
    client.close().await?;
    server.shutdown().await;
    Ok(())
}
