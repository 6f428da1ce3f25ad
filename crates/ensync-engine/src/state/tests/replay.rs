use ensync_core::{ErrorKind, EventName, Metadata, Publish};

use super::bench::*;
use crate::model::{AdminCommand, Position, Rights};
use crate::partition::EventKey;
use crate::state::LetterAction;

#[test]
fn a_replay_returns_the_event_before_and_after_its_acknowledgement() {
    let mut bench = Bench::new();
    let (shop, warehouse) = (bench.login(SHOP), bench.consumer(WAREHOUSE));
    let metadata = Metadata::parse(r#"{"headers":{"a":1},"k":2}"#).unwrap();
    let id = bench.publish_as(&shop, Publish { metadata, ..publish("b25l") }).unwrap();
    let waiting = bench.replay(&warehouse, &id).unwrap();
    assert_eq!(
        (waiting.id.clone(), waiting.payload.as_str().unwrap(), waiting.block.as_u64()),
        (id.clone(), "b25l", 1)
    );
    assert_eq!((waiting.metadata.header("a").unwrap(), waiting.metadata.field("k").unwrap()), (1.into(), 2.into()));
    let info = waiting.metadata.replay_info().unwrap();
    assert_eq!((info.is_replayed, info.replayed_at, info.was_acknowledged), (true, Some(bench.now), Some(false)));

    let delivery = bench.deliver_one(&warehouse);
    assert_eq!(bench.replay(&warehouse, &id).unwrap().block, delivery.block);
    bench.ack(&warehouse, &delivery).unwrap();
    let acked = bench.replay(&warehouse, &id).unwrap();
    assert_eq!(acked.metadata.replay_info().unwrap().was_acknowledged, Some(true));
    assert_eq!((acked.block, acked.payload), (delivery.block, delivery.payload));

    // No subscription saw it, and it counts as no delivery.
    assert_eq!((bench.deliver(&warehouse), bench.stats().counters.delivered), (vec![], 1));
    bench.restart();
    let warehouse = bench.login(WAREHOUSE);
    let info = bench.replay(&warehouse, &id).unwrap().metadata.replay_info().unwrap();
    assert_eq!(info.was_acknowledged, Some(true));
}

#[test]
fn only_under_its_name_and_with_the_right_to_it() {
    let mut bench = Bench::with(|settings| settings.dev = true, Default::default());
    let (shop, warehouse) = (bench.login(SHOP), bench.login(WAREHOUSE));
    let id = bench.publish_as(&shop, publish("b25l")).unwrap();
    let other = EventName::parse("other").unwrap();
    refused(bench.run(&warehouse, Command::Replay { id: id.clone(), event: other }), ErrorKind::NotFound);
    let rights = Rights { publish: true, subscribe: false };
    bench.administer(AdminCommand::Grant { app: app(WAREHOUSE), event: None, rights }).unwrap();
    refused(bench.replay(&warehouse, &id), ErrorKind::Forbidden);
}

#[test]
fn the_sender_cannot_replay_what_it_sent() {
    let mut bench = Bench::new();
    let shop = bench.login(SHOP);
    let id = bench.publish_as(&shop, publish("b25l")).unwrap();
    refused(bench.replay(&shop, &id), ErrorKind::NotFound);
}

#[test]
fn a_forged_position_reads_nothing() {
    let mut bench = Bench::new();
    let (shop, warehouse) = (bench.login(SHOP), bench.consumer(WAREHOUSE));
    let mine = bench.publish_as(&shop, publish("b25l")).unwrap();
    let theirs = bench.publish_as(&shop, Publish { recipient: app(STRANGER), ..publish("dHdv") }).unwrap();
    let delivery = bench.deliver_one(&warehouse);
    bench.ack(&warehouse, &delivery).unwrap();
    // The event is settled, so the state knows nothing to compare an id with; the record it leads to has to match.
    let (mine, theirs) = (EventKey::of(&mine).unwrap(), EventKey::of(&theirs).unwrap());
    let forged = [
        EventKey { position: theirs.position, ..mine },
        EventKey { position: Position::new(1), ..mine },
        EventKey { position: Position::new(u64::MAX), ..mine },
        EventKey { position: Position::START, ..mine },
        EventKey { tag: mine.tag + 1, ..mine },
    ];
    for key in forged {
        refused(bench.replay(&warehouse, &key.to_id()), ErrorKind::NotFound);
    }
    assert_eq!(bench.replay(&warehouse, &mine.to_id()).unwrap().payload.as_str().unwrap(), "b25l");
}

#[test]
fn a_dead_letter_was_not_acknowledged() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let id = bench.publish("b25l");
    bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &id, None, discard("no")).unwrap();
    for _ in 0..2 {
        let info = bench.replay(&warehouse, &id).unwrap().metadata.replay_info().unwrap();
        assert_eq!(info.was_acknowledged, Some(false));
        // The second time it is given up.
        bench.letter(LetterAction::Drop, &id).ok();
    }
}
