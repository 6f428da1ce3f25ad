//! The same program over gRPC and over WebSocket: only the URL says which. `cargo run --example swap_transport -- ws`
use ensync_engine::Server;
use ensync_sdk::{Engine, Result};
use futures::TryStreamExt;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (shop, warehouse) = (server.create_app("shop").await?, server.create_app("warehouse").await?);
    let url = match std::env::args().nth(1).as_deref() {
        Some("ws") => server.ws_url(),
        _ => server.grpc_url(),
    };

    let engine = Engine::new(&url)?;
    let client = engine.create_client(&warehouse.app_key).app_secret_key(&warehouse.secret_key).await?;
    let mut orders = client.subscribe("orders/placed").await?;

    // Apps on different transports reach each other: the engine sits between them.
    let other = Engine::new(&if url.starts_with("ws") { server.grpc_url() } else { server.ws_url() })?;
    let sender = other.create_client(&shop.app_key).await?;
    sender.publish("orders/placed", &json!({"order": "o-1"})).to(warehouse.app_id).await?;

    if let Some(event) = orders.try_next().await? {
        println!("sent to {}, received from {}: {}", sender.endpoint(), client.endpoint(), event.json()?);
        event.ack().await?;
    }
    client.close().await?;
    server.shutdown().await;
    Ok(())
}
