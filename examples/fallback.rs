//! More than one way to an engine: gRPC where it gets through, WebSocket where it does not. `cargo run --example fallback`
use ensync_engine::Server;
use ensync_sdk::{Engine, Result};
use futures::TryStreamExt;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (shop, warehouse) = (server.create_app("shop").await?, server.create_app("warehouse").await?);

    // A company network that lets no HTTP/2 out looks like this: nobody answers where gRPC should be.
    let engine = Engine::new("grpc://127.0.0.1:1")?.fallback(&server.ws_url())?;
    // A proxy is taken from HTTPS_PROXY and the like, or named: engine.proxy("http://user:password@proxy:3128")?

    let stock = engine.create_client(&warehouse.app_key).app_secret_key(&warehouse.secret_key).await?;
    let mut orders = stock.subscribe("orders/placed").await?;
    println!("connected by {}", stock.endpoint());

    // The next client of this engine begins with what worked.
    let till = engine.create_client(&shop.app_key).await?;
    till.publish("orders/placed", &json!({"order": "o-1"})).to(warehouse.app_id).await?;
    if let Some(event) = orders.try_next().await? {
        println!("received {}", event.json()?);
        event.ack().await?;
    }

    // TLS is not given up for plaintext.
    let refused = Engine::new("grpcs://node.example.com")?.fallback("ws://node.example.com");
    if let Err(error) = refused {
        println!("{error}");
    }
    till.close().await?;
    stock.close().await?;
    server.shutdown().await;
    Ok(())
}
