//! Pause and resume: deliveries to one client halt for a while; what arrives meanwhile waits at the engine.
use ensync_engine::Server;
use ensync_sdk::{Engine, Error, Event, Result};
use serde_json::json;
use tokio::sync::mpsc;

const STOCK: &str = "inventory/updates";

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (shop, warehouse) = (server.create_app("shop").await?, server.create_app("warehouse").await?);
    let engine = Engine::new(&server.ws_url())?;
    let client = engine.create_client(&warehouse.app_key).app_secret_key(&warehouse.secret_key).await?;
    let (done, mut handled) = mpsc::unbounded_channel();
    let subscription = client.subscribe(STOCK).await?.on(move |event: Event| {
        let done = done.clone();
        async move {
            println!("processing event {}", event.id());
            let _ = done.send(event.json()?);
            Ok::<_, Error>(())
        }
    });

    let sender = engine.create_client(&shop.app_key).await?;
    sender.publish(STOCK, &json!({"chairs": 3})).to(warehouse.app_id).await?;
    assert_eq!(handled.recv().await, Some(json!({"chairs": 3})));

    subscription.pause("maintenance").await?;
    println!("paused: nothing is delivered to this client");
    sender.publish(STOCK, &json!({"chairs": 2})).to(warehouse.app_id).await?;
    assert!(handled.try_recv().is_err());

    subscription.resume().await?;
    println!("resumed");
    assert_eq!(handled.recv().await, Some(json!({"chairs": 2})));

    subscription.stop().await?;
    client.close().await?;
    server.shutdown().await;
    Ok(())
}
