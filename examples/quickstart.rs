//! Two apps exchange encrypted events through an engine in the same process: an order is sent and answered, first over gRPC,
//! then over WebSocket. Only the URL differs.
use ensync_engine::{NewApp, Server};
use ensync_sdk::{Engine, Error, Event, Result};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

const ORDERS: &str = "orders/status/updated";
const ANSWERS: &str = "orders/status/answered";

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    order: String,
    status: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::dev().start().await?;
    let (shop, warehouse) = (server.create_app("shop").await?, server.create_app("warehouse").await?);
    for url in [server.grpc_url(), server.ws_url()] {
        println!("\n{url}");
        exchange(&url, &shop, &warehouse).await?;
    }
    server.shutdown().await;
    Ok(())
}

async fn exchange(url: &str, shop: &NewApp, warehouse: &NewApp) -> Result<()> {
    let engine = Engine::new(url)?;

    // The warehouse answers every order, and acknowledges it after that.
    let stock = engine.create_client(&warehouse.app_key).app_secret_key(&warehouse.secret_key).await?;
    let answering = stock.clone();
    let orders = stock.subscribe(ORDERS).await?.on(move |event: Event| {
        let stock = answering.clone();
        async move {
            let order: Order = event.payload()?;
            println!("warehouse got  id {} block {}  {order:?}", event.id(), event.block());
            let answer = Order { status: "shipped".into(), ..order };
            stock.publish(ANSWERS, &answer).to_all(event.sender().app_id()).await?;
            Ok::<_, Error>(())
        }
    });

    let till = engine.create_client(&shop.app_key).app_secret_key(&shop.secret_key).await?;
    let mut answers = till.subscribe(ANSWERS).await?;
    let order = Order { order: "o-123".into(), status: "paid".into() };
    let receipt = till.publish(ORDERS, &order).to(warehouse.app_id).header("source", "shop").await?;
    println!("shop sent      id {}", receipt.id());
    if let Some(answer) = answers.try_next().await? {
        println!("shop got       id {} block {}  {:?}", answer.id(), answer.block(), answer.payload::<Order>()?);
        answer.ack().await?;
    }
    orders.stop().await?;
    till.close().await?;
    stock.close().await
}
