//! Replay: an event is asked for again by its id, after it was acknowledged, and returned where it was asked for.
use ensync_engine::Server;
use ensync_sdk::{Engine, ErrorKind, Result};
use futures::TryStreamExt;
use serde_json::json;

const PAYMENTS: &str = "gms/payments/complete";

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (bank, books) = (server.create_app("bank").await?, server.create_app("books").await?);
    let engine = Engine::new(&server.grpc_url())?;
    let client = engine.create_client(&books.app_key).app_secret_key(&books.secret_key).await?;
    let mut payments = client.subscribe(PAYMENTS).await?;

    let sender = engine.create_client(&bank.app_key).await?;
    let id = sender.publish(PAYMENTS, &json!({"order": "o-1"})).to(books.app_id).await?.id().clone();
    if let Some(event) = payments.try_next().await? {
        event.ack().await?;
    }

    let again = payments.replay(&id).await?;
    println!("{} again: {}", again.id(), again.json()?);
    let info = again.metadata().replay_info().expect("a replayed event says so");
    assert!(info.is_replayed && info.was_acknowledged == Some(true));

    // Only the recipient can ask, and only for what the engine has.
    assert_eq!(client.replay(PAYMENTS, "no-such-event").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(sender.replay(PAYMENTS, &id).await.unwrap_err().kind(), ErrorKind::NotFound);
    client.close().await?;
    server.shutdown().await;
    Ok(())
}
