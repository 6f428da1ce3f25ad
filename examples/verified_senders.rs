//! Who sent it: with the suite "aes-256-gcm" the envelope proves the sender, and a subscription can take proven senders only.
use ensync_engine::Server;
use ensync_sdk::{Engine, Result, Sender, Suite, Unopenable};
use futures::TryStreamExt;
use serde_json::json;

const REFUNDS: &str = "refunds/granted";

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (bank, books) = (server.create_app("bank").await?, server.create_app("books").await?);
    let stranger = server.create_app("stranger").await?;
    let engine = Engine::new(&server.grpc_url())?.suite(Suite::Aes256Gcm);

    // Refunds of the bank only. What anybody else sends goes to the dead letters.
    let client = engine.create_client(&books.app_key).app_secret_key(&books.secret_key).await?;
    let mut refunds = client.subscribe(REFUNDS).verified_from([bank.app_id]).unopenable(Unopenable::Discard).await?;

    let forger = engine.create_client(&stranger.app_key).app_secret_key(&stranger.secret_key).await?;
    forger.publish(REFUNDS, &json!({"amount": 1_000_000})).to(books.app_id).await?;
    // A signature also convinces others than the recipient.
    let sender = engine.create_client(&bank.app_key).app_secret_key(&bank.secret_key).await?;
    sender.publish(REFUNDS, &json!({"amount": 12.5})).to(books.app_id).sign().await?;

    if let Some(event) = refunds.try_next().await? {
        println!("{} from {:?}, sealed as {:?}", event.json()?, event.sender(), event.sealed_id());
        assert_eq!(event.sender(), Sender::Verified { key: bank.app_id, signed: true });
        event.ack().await?;
    }
    client.close().await?;
    let dead = server.broker().dead_letters(None, None, 10).await?;
    assert_eq!(dead.first().map(|letter| letter.reason.as_str()), Some("sender_not_verified"));
    println!("discarded {} of somebody else", dead.len());
    server.shutdown().await;
    Ok(())
}
