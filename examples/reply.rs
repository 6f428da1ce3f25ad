//! Reply to the sender: the answer goes to whoever the engine says sent the event, under the same event name.
use ensync_engine::Server;
use ensync_sdk::{Engine, Error, Event, Result};
use futures::TryStreamExt;
use serde_json::json;

const QUOTES: &str = "quotes/requested";

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (buyer, seller) = (server.create_app("buyer").await?, server.create_app("seller").await?);
    let engine = Engine::new(&server.grpc_url())?;

    let shop = engine.create_client(&seller.app_key).app_secret_key(&seller.secret_key).await?;
    let serving = shop.subscribe(QUOTES).await?.on(|event: Event| async move {
        println!("asked: {}", event.json()?);
        event.reply(&json!({"status": "received", "price": 299.99})).await?;
        Ok::<_, Error>(())
    });

    let client = engine.create_client(&buyer.app_key).app_secret_key(&buyer.secret_key).await?;
    let mut answers = client.subscribe(QUOTES).await?;
    client.publish(QUOTES, &json!({"item": "chair"})).to(seller.app_id).await?;
    if let Some(answer) = answers.try_next().await? {
        println!("answered: {}", answer.json()?);
        assert_eq!(answer.sender().app_id(), Some(seller.app_id));
        answer.ack().await?;
    }
    serving.stop().await?;
    client.close().await?;
    shop.close().await?;
    server.shutdown().await;
    Ok(())
}
