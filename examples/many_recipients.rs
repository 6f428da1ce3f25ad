//! One event for many recipients: each gets a copy that only it can open, and is told of no other.
use ensync_engine::Server;
use ensync_sdk::{AppId, Engine, ErrorKind, PartialPublish, Result};
use futures::TryStreamExt;
use serde_json::json;

const PRICES: &str = "shop/prices/changed";

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let engine = Engine::new(&server.grpc_url())?;
    let shop = server.create_app("shop").await?;
    let mut branches = Vec::new();
    for city in ["lagos", "lima", "lyon"] {
        let app = server.create_app(city).await?;
        let client = engine.create_client(&app.app_key).app_secret_key(&app.secret_key).await?;
        branches.push((city, app.app_id, client.subscribe(PRICES).await?));
    }

    let publisher = engine.create_client(&shop.app_key).await?;
    let everybody: Vec<AppId> = branches.iter().map(|(_, id, _)| *id).collect();
    let receipt = publisher.publish(PRICES, &json!({"chair": 299.99})).to_all(&everybody).await?;

    for (city, id, events) in &mut branches {
        let Some(event) = events.try_next().await? else { continue };
        assert_eq!(Some(event.id()), receipt.id_for(id));
        println!("{city} got {} as {}", event.json()?, event.id());
        event.ack().await?;
    }

    // If only some can be served, the error says who was and who was not.
    let stranger = AppId::from_bytes([9; 32]);
    let known = everybody.first().copied().unwrap_or(shop.app_id);
    let error = publisher.publish(PRICES, &json!({"chair": 250})).to(known).to(stranger).await.unwrap_err();
    match PartialPublish::of(&error) {
        Some(partial) => println!("{error}: {} accepted, {} failed", partial.accepted.len(), partial.failed.len()),
        // This key is not even a point on the curve, so nothing was sent at all.
        None => assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}"),
    }
    server.shutdown().await;
    Ok(())
}
