//! A data directory of this format, kept: whoever has data in it can read that with every later version.
//!
//! `format-3` holds a log with every kind of record and a checkpoint with every field, and records after that.
//! `ENSYNC_WRITE_FORMAT=1 cargo test -p ensync-engine --lib kept` writes it; never again, once anybody has data in this format.

use std::num::NonZeroU32;

use bytes::Bytes;
use ensync_core::{
    AppId, AppKey, Block, Command, EventName, IdempotencyKey, Login, Metadata, Publish, Reply, Schema, Service,
    Session, Subscribe, WirePayload,
};

use super::super::format::{Frame, RECORD, read_header};
use super::*;
use crate::log::{Logs, MemoryLog};
use crate::model::codec::snapshot;
use crate::model::{AdminCommand, EventOptions, KeyHash, Rights, Snapshot};
use crate::state::Settings;
use crate::store::Fold;
use crate::store::one::verify;
use crate::testing::ManualClock;
use crate::{Broker, BrokerOptions, Log};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/log/disk/tests/format-3");
/// When all of it happened.
const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// Far from that.
const LATER: Timestamp = Timestamp::from_millis(4_000_000_000_000);

const SHOP: AppId = AppId::from_bytes([1; 32]);
const STORE: AppId = AppId::from_bytes([2; 32]);
const STORE_2: AppId = AppId::from_bytes([12; 32]);
const STORE_3: AppId = AppId::from_bytes([22; 32]);
const CLOSED: AppId = AppId::from_bytes([3; 32]);
const LATE: AppId = AppId::from_bytes([4; 32]);

fn paid() -> EventName {
    EventName::parse("orders/paid").unwrap()
}

fn full() -> EventOptions {
    EventOptions {
        schema: Some(Schema::parse(r#"{"n":"long"}"#).unwrap()),
        ttl: Some(Duration::new(3_000_000_000, 7)),
        max_deliveries: NonZeroU32::new(5),
        ack_timeout: Some(Duration::from_millis(2_500)),
    }
}

fn hash(key: &str) -> KeyHash {
    KeyHash::of(&AppKey::parse(key).unwrap())
}

fn app(id: AppId, name: &str, rights: Rights) -> Record {
    admin(AdminCommand::CreateApp {
        id,
        name: name.into(),
        key_hash: hash(&format!("key-of-{name}")),
        rights,
        same_name: true,
    })
}

fn admin(command: AdminCommand) -> Record {
    Record::Admin { at: AT, command }
}

fn publish(seq: u64) -> Record {
    Record::Publish(PublishRecord {
        at: EventRef { queue: 3, seq },
        tag: 0xfeed,
        recipient_id: STORE,
        recipient: if seq == 0 { STORE } else { STORE_3 },
        event: paid(),
        sender_id: SHOP,
        sender: SHOP,
        payload: WirePayload::from_wire(format!("cGF5bG9hZDAwMD{seq}=")),
        metadata: Metadata::parse(r#"{"n":1}"#).unwrap(),
        accepted_at: AT,
        expires_at: (seq == 4).then_some(LATER),
        idempotency_key: (seq < 2).then(|| IdempotencyKey::parse(&format!("once-{seq}")).unwrap()),
    })
}

/// What the checkpoint covers: every kind of record, then a state with every field.
fn before() -> Vec<Record> {
    let event = |seq| EventRef { queue: 3, seq };
    let reason = || "too \"strange\"".to_owned();
    let mut records = samples();
    records.extend([
        app(SHOP, "shop", Rights { publish: true, subscribe: false }),
        app(STORE, "store", Rights::ALL),
        app(CLOSED, "closed", Rights::NONE),
        admin(AdminCommand::RegisterEvent { name: paid(), options: full() }),
        admin(AdminCommand::UseEvent { name: EventName::parse("auto").unwrap() }),
        admin(AdminCommand::Grant {
            app: STORE,
            event: Some(paid()),
            rights: Rights { publish: false, subscribe: true },
        }),
        admin(AdminCommand::RotateKey { app: SHOP, key_hash: hash("new-key-of-shop"), grace: LATER.since(AT) }),
        admin(AdminCommand::Enable { app: CLOSED, enabled: false }),
    ]);
    records.push(publish(0));
    records.push(admin(AdminCommand::RotateKeyPair { app: STORE, public_key: STORE_2 }));
    records.push(admin(AdminCommand::RotateKeyPair { app: STORE, public_key: STORE_3 }));
    records.extend((1..7).map(publish));
    records.extend([
        Record::Ack { event: event(0), block: Block::new(1 << 32 | 1).unwrap(), at: AT },
        Record::Defer { event: event(2), until: LATER, deliveries: 3, handed_back: 0 },
        Record::Discard { event: event(3), reason: reason(), at: AT, deliveries: 2 },
        Record::Discard { event: event(6), reason: reason(), at: AT, deliveries: 1 },
        Record::Drop { event: event(6) },
        // A copy, as retention makes them.
        publish(1),
    ]);
    records
}

/// What comes after it.
fn after() -> Vec<Record> {
    let event = |seq| EventRef { queue: 3, seq };
    vec![
        Record::Ack { event: event(5), block: Block::new(2 << 32 | 1).unwrap(), at: AT },
        publish(7),
        app(LATE, "late", Rights::ALL),
        admin(AdminCommand::RetireKey { app: STORE, public_key: STORE_2 }),
    ]
}

fn shared(records: Vec<Record>) -> Vec<Arc<Record>> {
    records.into_iter().map(Arc::new).collect()
}

/// What records at their positions come to.
fn fold(stored: &[(Position, Arc<Record>)]) -> Snapshot {
    let mut state = Fold::new(Settings::default());
    for (at, record) in stored {
        state.apply(*at, record);
    }
    state.tick(AT);
    state.snapshot()
}

async fn write() {
    let place = Place::new();
    let log = place.open();
    let mut stored = Vec::new();
    let before = shared(before());
    for part in before.chunks(3) {
        stored.extend(log.store(part).await.unwrap().into_iter().zip(part.iter().cloned()));
    }
    log.save_checkpoint(stored.last().unwrap().0, vec![snapshot::encode(&fold(&stored))]).await.unwrap();
    drop(log);
    let log = place.open();
    log.store(&shared(after())).await.unwrap();
    drop(log);
    place.alter(&place.segment(1), |bytes| bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 9));
    _ = fs::remove_dir_all(KEPT);
    fs::create_dir_all(KEPT).unwrap();
    for path in place.files().into_keys() {
        fs::copy(&path, Path::new(KEPT).join(path.file_name().unwrap())).unwrap();
    }
}

/// A copy of the kept directory.
async fn kept() -> Place {
    static WRITTEN: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    if std::env::var_os("ENSYNC_WRITE_FORMAT").is_some() {
        WRITTEN.get_or_init(write).await;
    }
    let place = Place::new();
    fs::create_dir_all(place.path()).unwrap();
    for entry in fs::read_dir(KEPT).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), place.path().join(entry.file_name())).unwrap();
    }
    place
}

async fn login(broker: &Broker, key: &str) -> ensync_core::Result<Session> {
    broker.login(Login { app_key: AppKey::parse(key).unwrap(), transport: "local", remote: None }).await
}

#[tokio::test]
async fn a_kept_directory_is_opened_with_all_that_is_in_it() {
    let place = kept().await;
    assert_eq!(verify(place.path()).await.unwrap().damage, []);
    let log = DiskLog::open(place.path(), super::options()).await.unwrap();
    assert_eq!(log.epoch(), 3);
    let clock = Arc::new(ManualClock::starting_at(AT));
    let options = BrokerOptions { clock: clock.clone(), ..BrokerOptions::default() };
    // What is the registry's is in a log of its own now.
    let registry = MemoryLog::new().registry();
    for (_, record) in scanned(&log, Position::START).await {
        if let Record::Admin { .. } = &*record {
            registry.store(&[record]).await.unwrap();
        }
    }
    let logs = Logs::new(Arc::new(registry), vec![Arc::new(log)]);
    let broker = Broker::start(options, logs).await.unwrap();

    let apps = broker.apps().await.unwrap();
    let brief: Vec<_> = apps.iter().map(|app| (app.name.as_str(), app.id, app.public_key, app.enabled)).collect();
    let expected = [
        ("shop", SHOP, SHOP, true),
        ("store", STORE, STORE_3, true),
        ("closed", CLOSED, CLOSED, false),
        ("late", LATE, LATE, true),
    ];
    assert_eq!(brief, expected);
    assert_eq!((apps[0].rights, apps[0].old_key_until), (Rights { publish: true, subscribe: false }, Some(LATER)));
    assert_eq!((&apps[1].earlier_keys, apps[1].created_at), (&vec![STORE], AT));
    assert_eq!(apps[1].grants, [(paid(), Rights { publish: false, subscribe: true })]);
    let auto = (EventName::parse("auto").unwrap(), EventOptions::default());
    assert_eq!(broker.events().await.unwrap(), [auto, (paid(), full())]);
    let queues = broker.queues().await.unwrap();
    let counts: Vec<_> = queues.iter().map(|q| (q.recipient, &q.event, q.ready, q.deferred, q.dead)).collect();
    assert_eq!(counts, [(STORE, &paid(), 3, 1, 1)]);
    let letters = broker.dead_letters(None, None, 10).await.unwrap();
    let letter = &letters[0];
    assert_eq!((letters.len(), letter.reason.as_str(), letter.at, letter.deliveries), (1, "too \"strange\"", AT, 2));

    for key in ["key-of-shop", "new-key-of-shop"] {
        login(&broker, key).await.unwrap();
    }
    assert_eq!(login(&broker, "key-of-closed").await.unwrap_err().kind(), ErrorKind::Forbidden);
    let shop = login(&broker, "new-key-of-shop").await.unwrap();
    let mut store = login(&broker, "key-of-store").await.unwrap();
    // A publish that is repeated is one that is there.
    let again = Publish {
        event: paid(),
        recipient: STORE_3,
        payload: WirePayload::from_wire("cGF5bG9hZDAwMD1=".to_owned()),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: Some(IdempotencyKey::parse("once-1").unwrap()),
    };
    let Reply::Published { id } = broker.handle(&shop.peer, Command::Publish(again)).await.unwrap() else { panic!() };
    let subscribe = Command::Subscribe(Subscribe { event: paid(), max_in_flight: None, max_bytes_in_flight: None });
    broker.handle(&store.peer, subscribe).await.unwrap();
    let mut delivered = Vec::new();
    for _ in 0..3 {
        delivered.push(store.inbox.next().await.unwrap());
    }
    let payloads: Vec<_> = delivered.iter().map(|delivery| delivery.payload.as_str().unwrap()).collect();
    assert_eq!(payloads, ["cGF5bG9hZDAwMD1=", "cGF5bG9hZDAwMD4=", "cGF5bG9hZDAwMD7="]);
    assert_eq!(id, delivered[0].id);
    // Clients may have written this one down.
    assert_eq!(id.as_str(), ID);
    let replay = Command::Replay { id: letter.id.clone(), event: paid() };
    let Reply::Replayed(replayed) = broker.handle(&store.peer, replay).await.unwrap() else { panic!() };
    assert_eq!(replayed.payload.as_str().unwrap(), "cGF5bG9hZDAwMD3=");
    clock.advance_to(LATER);
    // Those that nobody settled come again, too.
    while store.inbox.next().await.unwrap().payload.as_str().unwrap() != "cGF5bG9hZDAwMD2=" {}
    broker.shutdown().await;
}

/// The id of the first event that waits.
const ID: &str = "AQAA_u0DAeCbgIAQ";

#[tokio::test]
async fn the_kept_bytes_are_what_is_written_today() {
    let place = kept().await;
    let bytes = Bytes::from(fs::read(place.segment(1)).unwrap());
    let log = place.open();
    let found = scanned(&log, Position::START).await;
    let all: Vec<_> = shared(before()).into_iter().chain(shared(after())).collect();
    assert!(found.iter().map(|(_, record)| record).eq(&all));
    let id = read_header(&bytes, 1).unwrap();
    for (at, kept) in &found {
        let offset = split(*at).1 as usize;
        let frame = Frame::read(&bytes, offset, &id, super::super::format::position(1, 0)).unwrap();
        assert_eq!(
            (frame.kind, frame.body_of(&bytes, offset)),
            (RECORD, Encoded::from(&**kept).to_bytes()),
            "{kept:?}"
        );
    }
    let (at, state) = log.load_checkpoint().await.unwrap().unwrap();
    let covered: Vec<_> = found.iter().filter(|(position, _)| *position <= at).cloned().collect();
    assert_eq!(covered.len(), before().len());
    let mut durable = fold(&covered);
    // An engine that remembered no app that it had deleted wrote it.
    durable.registry.deleted = Vec::new();
    assert_eq!(snapshot::decode(state.clone()).unwrap(), durable);
    assert_eq!(snapshot::encode(&durable), state);
    // Nothing is left out of it.
    let store = &durable.registry.apps[1];
    assert!(durable.registry.apps[0].old_key.is_some() && !store.earlier_keys.is_empty() && !store.grants.is_empty());
    let publishes: usize = durable.partition.publishes.iter().map(|of| of.publishes.len()).sum();
    assert_eq!((durable.partition.next_queue, durable.partition.queues[0].events.len(), publishes), (8, 5, 2));
    let settled = &durable.partition.queues[0].settled;
    assert!(settled.iter().any(|s| s.by.is_some()) && settled.iter().any(|s| s.by.is_none()));
    assert!(durable.partition.queues[0].events.iter().any(|event| event.current != event.position));
}

/// The disk is full, and the older one is all there is.
#[tokio::test]
async fn the_newest_checkpoint_that_can_be_read_is_never_given_up() {
    let place = Place::quick();
    let log = place.open();
    for (seq, state) in ["older", "newer"].into_iter().enumerate() {
        let at = log.store(&[small(seq as u64)]).await.unwrap()[0];
        log.save_checkpoint(at, vec![Bytes::from(state)]).await.unwrap();
    }
    let newest = place.files().into_keys().rfind(|path| path.extension().is_some_and(|end| end == "checkpoint"));
    let newest = newest.unwrap();
    let whole = fs::read(&newest).unwrap();
    place.alter(&newest, |bytes| bytes[66] ^= 1);
    log.drop_older_checkpoints().await.unwrap();
    assert_eq!(log.load_checkpoint().await.unwrap().unwrap().1, "older");
    fs::write(&newest, whole).unwrap();
    log.drop_older_checkpoints().await.unwrap();
    assert_eq!(log.load_checkpoint().await.unwrap().unwrap().1, "newer");
    assert_eq!(place.files().keys().filter(|path| path.extension().is_some_and(|end| end == "checkpoint")).count(), 1);
}
