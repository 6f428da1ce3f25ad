//! One event for many recipients: each gets a copy that only it can open, and is told of no other.
use ensync_engine::Server;
use ensync_sdk::{AppId, Engine, PartialPublish, Result, SecretKey};
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
    let nobody = SecretKey::generate()?.app_id().expect("a generated key has a public half");
    let error = publisher.publish(PRICES, &json!({"chair": 250})).to_all([shop.app_id, nobody]).await.unwrap_err();
    let partial = PartialPublish::of(&error).expect("one of the two is an app");
    println!("{error}: {} accepted; {partial}", partial.accepted.len());
    server.shutdown().await;
    Ok(())
}
