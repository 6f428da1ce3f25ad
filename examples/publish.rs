//! Publishing: the least it takes, and everything that can be said.
use ensync_engine::Server;
use ensync_sdk::{Engine, ErrorKind, Result, Schema};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (shop, mailer) = (server.create_app("shop").await?, server.create_app("mailer").await?);
    let engine = Engine::new(&server.grpc_url())?;
    // A client that only publishes needs no secret key.
    let client = engine.create_client(&shop.app_key).await?;

    // The receipt is the engine's word that it has the event.
    let welcome = json!({"to": "user@example.com", "subject": "Welcome!"});
    let receipt = client.publish("notifications/email/sent", &welcome).to(mailer.app_id).await?;
    println!("published {}", receipt.id());

    // With headers and fields of metadata (which are not encrypted), and a check of the payload before anything is sent.
    let schema = Schema::parse(r#"{"to": "string", "subject": "string"}"#)?;
    let receipt = client
        .publish("notifications/email/sent", &welcome)
        .to(mailer.app_id)
        .header("source", "email-service")
        .metadata("priority", "high")
        .persist(true)
        .schema(schema.clone())
        .idempotency_key("welcome-user-1")
        .await?;
    println!("published {} with metadata", receipt.id());

    // Publishing again under the same key is answered the same and stored once.
    let again = client
        .publish("notifications/email/sent", &welcome)
        .to(mailer.app_id)
        .idempotency_key("welcome-user-1")
        .await?;
    assert_eq!(again.id(), receipt.id());

    // What is wrong is told, and what to do about it.
    let error = client
        .publish("notifications/email/sent", &json!({"to": 7}))
        .to(mailer.app_id)
        .schema(schema)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
    println!("refused: {error}");

    client.close().await?;
    server.shutdown().await;
    Ok(())
}
