//! What recovers from a disk that is full: with events of few bytes, of which an acknowledgement is a good part, and of many; with one
//! partition, and with several on one disk.

use futures::future::join_all;

use super::*;

/// The bytes of payloads.
const SIZES: [usize; 3] = [100, 1_000, 20_000];
/// Partitions, and the MiB of their disk.
const STORES: [(u32, usize); 2] = [(1, 8), (4, 16)];
/// How long it may take until publishes are accepted again.
const BOUND: Duration = Duration::from_secs(60);

/// An engine on a disk of its own that is full.
struct Full {
    disk: Disk,
    partitions: u32,
    size: usize,
    broker: Broker,
    shop: Session,
    /// By recipient: what was accepted for it and not settled.
    owed: BTreeMap<AppId, BTreeSet<String>>,
}

async fn open(disk: &Disk, partitions: u32) -> Broker {
    let mut options = BrokerOptions::default();
    options.limits.max_in_flight = 1_000_000.try_into().unwrap();
    options.limits.max_bytes_in_flight = u64::MAX;
    options.defaults.max_deliveries = u32::MAX.try_into().unwrap();
    // Nobody has to hurry.
    options.defaults.ack_timeout = Duration::from_secs(3_600);
    let mut kept = DiskOptions::default();
    kept.partitions = partitions.try_into().ok();
    Broker::start(options, Logs::open(disk.path(), kept).await.unwrap()).await.unwrap()
}

impl Full {
    /// Publishes until nothing more is accepted; each `stock` of five goes to [`STOCK`], the others to another app, which is absent.
    async fn of(size: usize, (partitions, mib): (u32, usize), stock: usize) -> Option<Self> {
        let disk = Disk::mount(mib)?;
        let broker = open(&disk, partitions).await;
        for (name, app) in [("shop", SHOP), ("stock", STOCK), ("other", other())] {
            broker.create_app_with_key(name, app, &key(app)).await.unwrap();
        }
        broker.register_event(event(), EventOptions::default()).await.unwrap();
        let shop = login(&broker, SHOP).await;
        let mut full = Self { disk, partitions, size, broker, shop, owed: BTreeMap::new() };
        let together = ((256 << 10) / size).clamp(1, 256);
        for _ in 0..1_000_000 {
            let recipients =
                (0..together).map(|n| if n * 3 % 5 < stock || together < 5 && stock == 5 { STOCK } else { other() });
            let mut refused = full.publish_all(recipients.collect()).await.err();
            if refused.is_some() {
                refused = full.publish_all(vec![if stock > 2 { STOCK } else { other() }]).await.err();
            }
            if let Some(refused) = refused {
                no_space(&refused);
                let held = full.owed.values().map(BTreeSet::len).sum::<usize>() * size;
                assert!(held * 100 > mib * MIB * 15, "{held} bytes of payload on {mib} MiB");
                return Some(full);
            }
        }
        panic!("it never is full");
    }

    async fn publish_all(&mut self, recipients: Vec<AppId>) -> Result<()> {
        let publish = |recipient: &AppId| {
            let publish = Publish {
                event: event(),
                recipient: *recipient,
                payload: WirePayload::from_wire("A".repeat(self.size)),
                metadata: Metadata::default(),
                payload_metadata: None,
                idempotency_key: None,
            };
            self.broker.handle(&self.shop.peer, Command::Publish(publish))
        };
        let answers = join_all(recipients.iter().map(publish)).await;
        let mut done = Ok(());
        for (recipient, answer) in recipients.into_iter().zip(answers) {
            match answer {
                Ok(Reply::Published { id }) => {
                    self.owed.entry(recipient).or_default().insert(id.as_str().to_owned());
                }
                Ok(other) => panic!("{other:?}"),
                Err(refused) => done = Err(refused),
            }
        }
        done
    }

    /// Has an app settle so many deliveries in one way. Nobody is refused.
    async fn settle(&mut self, app: AppId, how: &Settlement, count: usize) {
        let mut session = login(&self.broker, app).await;
        subscribe(&self.broker, &session).await;
        let mut left = count;
        while left > 0 {
            let mut deliveries = Vec::new();
            while deliveries.len() < left.min(256) {
                let next = tokio::time::timeout(BOUND, session.inbox.next()).await;
                deliveries.push(next.unwrap_or_else(|_| panic!("no delivery of {left} that are left")).unwrap());
            }
            left -= deliveries.len();
            let settle = |delivery: &Delivery| {
                let settle =
                    Settle { id: delivery.id.clone(), event: None, block: Some(delivery.block), how: how.clone() };
                self.broker.handle(&session.peer, Command::Settle(settle))
            };
            for (delivery, answer) in deliveries.iter().zip(join_all(deliveries.iter().map(settle)).await) {
                answer.unwrap_or_else(|refused| panic!("{how:?} was refused, {left} of {count} left: {refused}"));
                if *how == Settlement::Ack {
                    self.owed.get_mut(&app).unwrap().remove(delivery.id.as_str());
                }
            }
        }
        self.broker.logout(&session.peer).await;
    }

    fn owed(&self, app: AppId) -> usize {
        self.owed.get(&app).map_or(0, BTreeSet::len)
    }

    /// Publishes are accepted again, and not only a few; then, after a restart, everything is there that is owed.
    async fn recovers(mut self, what: &str, to: AppId) {
        let (begun, mut accepted) = (Instant::now(), 0);
        while accepted < 20 {
            match self.publish_all(vec![to]).await {
                Ok(()) => accepted += 1,
                Err(refused) => {
                    no_space(&refused);
                    assert!(begun.elapsed() < BOUND, "{what}, {} bytes: {accepted} accepted; {refused}", self.size);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        let (took, size, partitions) = (begun.elapsed(), self.size, self.partitions);
        self.restart().await;
        for app in [STOCK, other()] {
            let stats = self.broker.queue(event(), app).await.unwrap();
            let found = stats.map_or(0, |stats| stats.ready + stats.in_flight + stats.deferred);
            assert_eq!(found, self.owed(app), "{what}");
            if found > 0 {
                self.settle(app, &Settlement::Ack, found).await;
            }
            assert_eq!(self.owed(app), 0, "{what}: what was delivered is what was accepted");
        }
        self.broker.shutdown().await;
        let report = ensync_engine::store::verify(self.disk.path()).await.unwrap();
        assert_eq!(report.damage, []);
        _ = writeln!(std::io::stderr(), "\n{what}, events of {size} bytes, {partitions} partitions: after {took:?}");
    }

    async fn restart(&mut self) {
        self.broker.shutdown().await;
        self.broker = open(&self.disk, self.partitions).await;
        self.shop = login(&self.broker, SHOP).await;
    }
}

/// Does something with full disks, of all kinds there are.
async fn each(stock: usize, mut what: impl AsyncFnMut(Full)) {
    for store in STORES {
        // The rest takes minutes where nothing is optimised.
        let all = store.0 == 1 || std::env::var_os("ENSYNC_SPACE").is_some();
        for size in SIZES.into_iter().filter(|size| all || *size == 1_000) {
            let Some(full) = Full::of(size, store, stock).await else { return };
            what(full).await;
        }
    }
}

#[tokio::test]
async fn acknowledgements_of_all() {
    each(5, async |mut full| {
        full.settle(STOCK, &Settlement::Ack, full.owed(STOCK)).await;
        full.recovers("all acknowledged", STOCK).await;
    })
    .await;
}

/// Its database is down, for the same reason maybe: it gives all of them back, more than once.
#[tokio::test]
async fn a_consumer_that_rolls_back_first() {
    each(5, async |mut full| {
        let count = (2 * full.owed(STOCK)).max(30_000);
        full.settle(STOCK, &Settlement::Rollback, count).await;
        full.settle(STOCK, &Settlement::Ack, full.owed(STOCK)).await;
        full.recovers("rolled back, then acknowledged", STOCK).await;
    })
    .await;
}

#[tokio::test]
async fn one_of_two_recipients_is_absent() {
    for stock in [2, 4] {
        each(stock, async |mut full| {
            full.settle(STOCK, &Settlement::Ack, full.owed(STOCK)).await;
            full.recovers("one of two absent", STOCK).await;
        })
        .await;
    }
}

#[tokio::test]
async fn an_app_that_is_deleted() {
    each(5, async |mut full| {
        full.broker.delete_app(STOCK).await.unwrap();
        full.owed.remove(&STOCK);
        full.recovers("deleted", other()).await;
    })
    .await;
}

/// All at once, by an administrator, who is refused nothing of it.
#[tokio::test]
async fn a_queue_that_is_purged() {
    each(5, async |mut full| {
        let encoded = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let path = format!("/v1/queues/{}/{}/purge", encoded(&STOCK.to_string()), encoded(event().as_str()));
        let request = http::Request::post(path).body(bytes::Bytes::new()).unwrap();
        let answer = AdminApi::new(full.broker.clone()).call(request).await.unwrap();
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        assert_eq!((answer.status().as_u16(), text), (200, format!("{{\"count\":{}}}", full.owed(STOCK))));
        full.owed.remove(&STOCK);
        full.recovers("purged", STOCK).await;
    })
    .await;
}

#[tokio::test]
async fn starts_on_a_full_disk() {
    each(5, async |mut full| {
        for _ in 0..3 {
            full.restart().await;
            _ = full.publish_all(vec![STOCK]).await;
        }
        full.settle(STOCK, &Settlement::Ack, full.owed(STOCK)).await;
        full.recovers("started again, then acknowledged", STOCK).await;
    })
    .await;
}
