//! How to test an app: an engine in the test's process, whose clock the test moves and whose faults it orders. Nothing sleeps.
//! In your project `main` would be a `#[tokio::test]`.
use std::collections::HashSet;
use std::time::Duration;

use ensync_engine::testing::TestEngine;
use ensync_sdk::{Engine, Error, ErrorKind, Event, Result, Subscription};
use futures::TryStreamExt;

const ORDERS: &str = "orders/placed";

/// The app under test: books each order once, and puts off what is out of stock.
#[derive(Default)]
struct Warehouse {
    in_stock: bool,
    booked: HashSet<String>,
}

impl Warehouse {
    async fn handle(&mut self, event: &Event) -> Result<()> {
        if !self.in_stock {
            return event.defer(Duration::from_secs(600), "out of stock").await.map(drop);
        }
        self.booked.insert(event.payload()?);
        event.ack().await
    }
}

async fn next(orders: &mut Subscription) -> Result<Event> {
    orders.try_next().await?.ok_or_else(|| Error::new(ErrorKind::Closed, "the subscription has ended"))
}

#[tokio::main]
async fn main() -> Result<()> {
    let test = TestEngine::start().await?;
    let (shop, warehouse) = (test.create_app("shop").await?, test.create_app("warehouse").await?);
    let engine = Engine::new(&test.grpc_url())?;
    let till = engine.create_client(&shop.app_key).await?;
    let stock = engine.create_client(&warehouse.app_key).app_secret_key(&warehouse.secret_key).await?;
    let (mut orders, mut app) = (stock.subscribe(ORDERS).await?, Warehouse::default());
    // What is put off comes again when its time has come, which is now.
    till.publish(ORDERS, &"o-1").to(warehouse.app_id).await?;
    app.handle(&next(&mut orders).await?).await?;
    app.in_stock = true;
    test.advance(Duration::from_secs(600)).await?;
    let again = next(&mut orders).await?;
    assert_eq!(again.attempt(), Some(2));

    // The app takes longer than the engine waits: it comes a third time, the late acknowledgement is refused, one order is booked.
    test.advance(Duration::from_secs(60)).await?;
    let late = app.handle(&again).await.map_err(|error| error.kind());
    assert_eq!(late, Err(ErrorKind::StaleDelivery));
    app.handle(&next(&mut orders).await?).await?;
    assert_eq!(app.booked, HashSet::from(["o-1".to_owned()]));

    // The engine's disk is full: the shop hears of it, and nothing is half there.
    let full = test.log_faults().fill();
    let soon = Duration::from_secs(1); // otherwise it is tried again for as long as a publish may take, 30 s
    assert!(till.publish(ORDERS, &"o-2").to(warehouse.app_id).timeout(soon).await.is_err());
    drop(full);
    test.wait_until_empty(ORDERS, warehouse.app_id).await.map(drop)
}
