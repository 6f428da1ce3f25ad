//! Apps lose their access keys, are disabled, and go.

use std::time::Duration;

use ensync_core::{ClientId, ErrorKind, IdempotencyKey, Peer, Publish, Result};

use super::bench::*;
use crate::model::{AdminCommand, Change, EventOptions, Record, Rights};
use crate::state::State;
use crate::state::{LetterAction, SessionNumber};

fn rotate(n: u8, key: u8, grace_ms: u64) -> AdminCommand {
    AdminCommand::RotateKey { app: app(n), key_hash: key_hash(key), grace: Duration::from_millis(grace_ms) }
}

fn enable(n: u8, enabled: bool) -> AdminCommand {
    AdminCommand::Enable { app: app(n), enabled }
}

fn create(n: u8) -> AdminCommand {
    let (name, rights) = ("again".into(), Rights::ALL);
    AdminCommand::CreateApp { id: app(n), name, key_hash: key_hash(n), rights, same_name: false }
}

/// Logs in with a key that need not be an app's first.
fn login(bench: &mut Bench, key: u8, client: &str) -> Result<(Peer, SessionNumber)> {
    let client_id = ClientId::parse(client).unwrap();
    let (number, app_id) = bench.state.login(&key_hash(key), client_id.clone())?;
    Ok((Peer { client_id, app_id }, number))
}

fn alive(bench: &mut Bench, peer: &Peer) -> bool {
    bench.run(peer, Command::Heartbeat).is_ok()
}

#[test]
fn a_rotated_access_key_logs_in_nobody_and_its_sessions_end() {
    let mut bench = Bench::new();
    let (old, number) = login(&mut bench, WAREHOUSE, "old").unwrap();
    bench.subscribe(&old, None).unwrap();
    bench.publish("b25l");
    let delivery = bench.deliver_one(&old);
    let shop = bench.login(SHOP);
    bench.administer(rotate(WAREHOUSE, 50, 0)).unwrap();
    assert_eq!(bench.state.take_ended(), [number]);
    refused(bench.ack(&old, &delivery), ErrorKind::Unauthenticated);
    refused(login(&mut bench, WAREHOUSE, "late"), ErrorKind::Unauthenticated);
    assert!(alive(&mut bench, &shop), "others stay");
    let (new, _) = login(&mut bench, 50, "new").unwrap();
    bench.subscribe(&new, None).unwrap();
    assert_eq!(bench.deliver_one(&new).id, delivery.id);
    bench.restart();
    refused(login(&mut bench, WAREHOUSE, "late"), ErrorKind::Unauthenticated);
    login(&mut bench, 50, "new").unwrap();
}

#[test]
fn an_old_access_key_goes_on_for_its_time_and_takes_its_sessions_with_it() {
    for restart in [false, true] {
        let mut bench = Bench::new();
        let (old, number) = login(&mut bench, WAREHOUSE, "old").unwrap();
        bench.administer(rotate(WAREHOUSE, 50, 5_000)).unwrap();
        assert!(alive(&mut bench, &old));
        assert_eq!(
            bench.state.app(&app(WAREHOUSE)).unwrap().old_key_until,
            Some(bench.now.after(Duration::from_secs(5)))
        );
        assert_eq!(bench.state.next_due(), Some(bench.now.after(Duration::from_secs(5))));
        if restart {
            bench.restart();
        }
        let (late, _) = login(&mut bench, WAREHOUSE, "late").unwrap();
        let (new, _) = login(&mut bench, 50, "new").unwrap();
        bench.advance(4_999);
        assert!(alive(&mut bench, &late) && alive(&mut bench, &new));
        bench.advance(1);
        assert!(!alive(&mut bench, &late) && alive(&mut bench, &new));
        assert_eq!(bench.state.take_ended().len(), if restart { 1 } else { 2 });
        assert_eq!(number, 1);
        refused(login(&mut bench, WAREHOUSE, "later"), ErrorKind::Unauthenticated);
        assert_eq!((bench.state.app(&app(WAREHOUSE)).unwrap().old_key_until, bench.state.next_due()), (None, None));
        assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
    }
}

#[test]
fn a_second_rotation_ends_the_first_key_at_once() {
    let mut bench = Bench::new();
    let (first, _) = login(&mut bench, WAREHOUSE, "first").unwrap();
    bench.administer(rotate(WAREHOUSE, 50, 60_000)).unwrap();
    let (second, _) = login(&mut bench, 50, "second").unwrap();
    bench.administer(rotate(WAREHOUSE, 51, 60_000)).unwrap();
    assert!(!alive(&mut bench, &first) && alive(&mut bench, &second));
    refused(login(&mut bench, WAREHOUSE, "late"), ErrorKind::Unauthenticated);
    // The other app's key, this one's, and the one that goes on.
    for taken in [SHOP, 51, 50] {
        refused(bench.administer(rotate(WAREHOUSE, taken, 0)), ErrorKind::Conflict);
    }
    refused(bench.administer(rotate(99, 60, 0)), ErrorKind::NotFound);
    refused(bench.administer(rotate(WAREHOUSE, 60, 31 * 24 * 3_600_000)), ErrorKind::InvalidInput);
    // A key that ended is free again, also when the log is read back, where nothing ticks in between.
    bench.advance(60_000);
    bench.administer(rotate(SHOP, 50, 0)).unwrap();
    assert_eq!(login(&mut bench, 50, "shop").unwrap().0.app_id, app(SHOP));
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
    bench.restart();
    assert_eq!(login(&mut bench, 50, "shop").unwrap().0.app_id, app(SHOP));
}

#[test]
fn a_disabled_app_is_out_and_its_events_wait() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    bench.administer(enable(WAREHOUSE, false)).unwrap();
    assert_eq!(bench.state.take_ended().len(), 1);
    refused(bench.run(&warehouse, Command::Heartbeat), ErrorKind::Unauthenticated);
    let error = login(&mut bench, WAREHOUSE, "late").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    assert!(error.to_string().contains("disabled"), "{error}");
    let id = bench.publish("b25l");
    bench.restart();
    refused(login(&mut bench, WAREHOUSE, "late"), ErrorKind::Forbidden);
    assert!(!bench.state.app(&app(WAREHOUSE)).unwrap().enabled);
    bench.administer(enable(WAREHOUSE, true)).unwrap();
    bench.administer(enable(WAREHOUSE, true)).unwrap();
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!(bench.deliver_one(&warehouse).id, id);
    assert!(alive(&mut bench, &warehouse));
    refused(bench.administer(enable(99, true)), ErrorKind::NotFound);
}

#[test]
fn a_deleted_app_takes_its_queues_and_leaves_what_it_published() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    // One waits, one is out, one is deferred, one is dead, one is in memory only.
    let ids: Vec<_> = (0..4).map(|_| bench.publish("b25l")).collect();
    bench.deliver(&warehouse);
    bench.settle(&warehouse, &ids[1], None, defer(5_000)).unwrap();
    bench.settle(&warehouse, &ids[2], None, discard("no")).unwrap();
    let shop = bench.login(SHOP);
    bench.publish_as(&shop, transient("b25l")).unwrap();
    bench.publish_as(&warehouse, Publish { recipient: app(STRANGER), ..publish("dHdv") }).unwrap();
    let copy = bench.log.iter().find(|record| matches!(&***record, crate::model::Record::Publish(_))).unwrap().clone();
    assert!(bench.state.holds(&copy));

    bench.administer(AdminCommand::DeleteApp { app: app(WAREHOUSE) }).unwrap();
    assert_eq!(bench.state.take_ended().len(), 1);
    refused(bench.run(&warehouse, Command::Heartbeat), ErrorKind::Unauthenticated);
    refused(login(&mut bench, WAREHOUSE, "late"), ErrorKind::Unauthenticated);
    refused(bench.publish_as(&shop, publish("b25l")), ErrorKind::UnknownRecipient);
    assert_eq!(bench.state.queue(&app(WAREHOUSE), &event()), None);
    assert_eq!((bench.state.dead_letters(None, None, 9), bench.state.app(&app(WAREHOUSE))), (vec![], None));
    for what in [AdminCommand::DeleteApp { app: app(WAREHOUSE) }, rotate(WAREHOUSE, 60, 0)] {
        refused(bench.administer(what), ErrorKind::NotFound);
    }
    refused(bench.letter(LetterAction::Requeue, &ids[2]), ErrorKind::NotFound);
    // Nothing of it is left to look at, and retention would not bring it back.
    assert!(!bench.state.holds(&copy));
    assert!(bench.state.partitions[0].memory.is_empty() && bench.state.next_due().is_none() && !bench.state.has_work());
    let stranger = bench.consumer(STRANGER);
    assert_eq!(texts(&bench.deliver(&stranger)), ["dHdv"]);
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
}

#[test]
fn an_app_that_comes_back_begins_anew() {
    for restart in [false, true] {
        let mut bench = Bench::new();
        let keyed = || Publish { idempotency_key: Some(IdempotencyKey::parse("once").unwrap()), ..publish("b25l") };
        let shop = bench.login(SHOP);
        let old = bench.publish_as(&shop, keyed()).unwrap();
        bench.administer(AdminCommand::DeleteApp { app: app(WAREHOUSE) }).unwrap();
        bench.administer(create(WAREHOUSE)).unwrap();
        if restart {
            bench.restart();
        }
        let shop = bench.login(SHOP);
        let new = bench.publish_as(&shop, keyed()).unwrap();
        assert_ne!(new, old, "a repeated publish would be lost");
        let warehouse = bench.consumer(WAREHOUSE);
        assert_eq!(bench.deliver_one(&warehouse).id, new);
        refused(bench.replay(&warehouse, &old), ErrorKind::NotFound);
        refused(bench.settle(&warehouse, &old, None, defer(0)), ErrorKind::NotFound);
        assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
    }
}

#[test]
fn coming_and_going_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let warehouse = bench.login(WAREHOUSE);
    for n in 0..50 {
        bench.administer(create(99)).unwrap();
        bench.administer(AdminCommand::Grant { app: app(99), event: Some(event()), rights: Rights::ALL }).unwrap();
        bench.administer(rotate(99, 100, 1_000)).unwrap();
        bench.administer(AdminCommand::RotateKeyPair { app: app(99), public_key: app(101) }).unwrap();
        let (peer, _) = login(&mut bench, 100, &format!("come-{n}")).unwrap();
        bench.subscribe(&peer, None).unwrap();
        bench.publish_as(&warehouse, Publish { recipient: app(101), ..publish("b25l") }).unwrap();
        bench.deliver(&peer);
        bench.administer(AdminCommand::DeleteApp { app: app(99) }).unwrap();
    }
    let state = &bench.state;
    assert_eq!(
        (state.partitions[0].queues.len(), state.partitions[0].numbers.len(), state.sessions(), state.apps().len()),
        (0, 0, 1, 3)
    );
    assert_eq!((state.partitions[0].hot.len(), state.next_due()), (0, None));
    // Numbers of queues go up all the same: an id never names another app's event.
    assert_eq!(state.snapshot().partitions[0].next_queue, 50);
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
    let restored = crate::state::State::restore(bench.settings.clone(), bench.state.snapshot());
    assert_eq!(restored.snapshot(), bench.state.snapshot());
}

#[test]
fn a_checkpoint_keeps_all_of_an_app() {
    let mut bench = Bench::new();
    bench.administer(rotate(WAREHOUSE, 50, 5_000)).unwrap();
    bench.administer(AdminCommand::RotateKeyPair { app: app(WAREHOUSE), public_key: app(20) }).unwrap();
    bench.administer(enable(SHOP, false)).unwrap();
    let durable = bench.state.snapshot();
    bench.adopt(State::restore(bench.settings.clone(), durable.clone()));
    assert_eq!(bench.state.snapshot(), durable);
    login(&mut bench, WAREHOUSE, "old").unwrap();
    refused(login(&mut bench, SHOP, "shop"), ErrorKind::Forbidden);
    bench.advance(5_000);
    refused(login(&mut bench, WAREHOUSE, "late"), ErrorKind::Unauthenticated);
    login(&mut bench, 50, "new").unwrap();
    assert_eq!(bench.state.public_key(&app(WAREHOUSE)), app(20));
}

#[test]
fn a_right_that_is_taken_back_ends_the_sessions_that_use_it() {
    let mut bench = Bench::new();
    let (subscribed, idle, other) = (bench.consumer(WAREHOUSE), bench.login(WAREHOUSE), bench.consumer(STRANGER));
    bench.publish("b25l");
    assert_eq!(texts(&bench.deliver(&subscribed)), ["b25l"]);
    let publish_only = Rights { publish: true, subscribe: false };
    let grant = |event, rights| AdminCommand::Grant { app: app(WAREHOUSE), event, rights };
    // One that leaves it as it is, or is overruled, ends nobody.
    bench.administer(grant(Some(event()), Rights::ALL)).unwrap();
    bench.administer(grant(None, publish_only)).unwrap();
    assert!(bench.state.take_ended().is_empty());
    bench.administer(AdminCommand::Revoke { app: app(WAREHOUSE), event: event() }).unwrap();
    assert_eq!(bench.state.take_ended().len(), 1);
    refused(bench.run(&subscribed, Command::Heartbeat), ErrorKind::Unauthenticated);
    for peer in [&idle, &other] {
        bench.run(peer, Command::Heartbeat).unwrap();
    }
    refused(bench.subscribe(&idle, None), ErrorKind::Forbidden);
    // What it held waits for whoever may have it.
    bench.administer(grant(None, Rights::ALL)).unwrap();
    bench.subscribe(&idle, None).unwrap();
    assert_eq!(texts(&bench.deliver(&idle)), ["b25l"]);
    bench.administer(grant(Some(event()), publish_only)).unwrap();
    assert_eq!(bench.state.take_ended().len(), 1);
}

#[test]
fn what_an_app_took_with_it_goes_though_the_engine_ended_in_between() {
    let mut bench = Bench::new();
    bench.publish("b25l");
    let changes = bench.state.administer(AdminCommand::DeleteApp { app: app(WAREHOUSE) }).unwrap();
    assert_eq!(changes.len(), 2, "the registry's and the queues' record");
    bench.commit(&changes[..1]);
    assert_eq!(bench.state.queues().len(), 1);
    bench.restart();
    assert!(bench.state.queues().is_empty());
    // An app of the same id gets nothing of it, and the log says so from now on.
    bench.administer(create(WAREHOUSE)).unwrap();
    let warehouse = bench.consumer(WAREHOUSE);
    assert!(bench.deliver(&warehouse).is_empty());
    assert_eq!(bench.replayed().snapshot(), bench.state.snapshot());
    assert!(bench.state.leftovers().is_empty());
}

#[test]
fn events_under_a_name_that_is_not_known_any_more_stay_for_who_registers_it_again() {
    let mut bench = Bench::new();
    // Of one recipient all are settled, of the other none.
    let stranger = bench.consumer(STRANGER);
    let shop = bench.login(SHOP);
    bench.publish_as(&shop, Publish { recipient: app(STRANGER), ..publish("b25l") }).unwrap();
    let delivery = bench.deliver(&stranger).remove(0);
    bench.ack(&stranger, &delivery).unwrap();
    bench.publish("b25l");
    // Nobody can delete it while an event waits; a damaged log may lack it.
    let gone = Record::Admin { at: bench.now, command: AdminCommand::DeleteEvent { name: event() } };
    bench.commit(&[Change::new(gone, true)]);
    bench.restart();
    bench.administer(AdminCommand::CreateEvent { name: event(), options: EventOptions::default() }).unwrap();
    let warehouse = bench.consumer(WAREHOUSE);
    assert_eq!(bench.deliver(&warehouse).len(), 1);
}
