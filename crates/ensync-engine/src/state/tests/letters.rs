//! Lists of dead letters, a bit at a time.

use ensync_core::{EventId, EventName, Publish};

use super::bench::*;
use crate::model::EventOptions;
use crate::partition::EventKey;
use crate::state::LetterFilter;

/// Queues that have none, or are not meant, are work as well.
#[test]
fn a_look_at_dead_letters_passes_some_queues_at_a_time() {
    const QUEUES: usize = 500;
    let mut bench = Bench::with(|settings| settings.dev = true, EventOptions::default());
    let shop = bench.login(SHOP);
    for n in 0..QUEUES {
        let event = EventName::parse(&format!("queue/{n}")).unwrap();
        bench.publish_as(&shop, Publish { event, ..publish("b25l") }).unwrap();
    }
    let warehouse = bench.consumer(WAREHOUSE);
    bench.publish("b25l");
    let delivery = bench.deliver_one(&warehouse);
    bench.settle(&warehouse, &delivery.id, Some(delivery.block), discard("no")).unwrap();
    for filter in [LetterFilter::default(), LetterFilter { event: Some(event()), ..LetterFilter::default() }] {
        let (mut found, mut after, mut looks) = (Vec::new(), None::<EventId>, 0);
        loop {
            let (more, next) = bench.state.letters(&filter, after.as_ref(), (10, 20));
            found.extend(more);
            looks += 1;
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found.iter().map(|letter| &letter.id).collect::<Vec<_>>(), [&delivery.id]);
        assert!(looks >= QUEUES / 20, "{looks}");
    }
}

/// Where the log was found not to have what waits, dead letters say so; what is one is left as it is.
#[test]
fn what_the_log_does_not_have_is_found_by_its_place() {
    let mut bench = Bench::new();
    let warehouse = bench.consumer(WAREHOUSE);
    let ids: Vec<_> = (0..4).map(|_| bench.publish("b25l")).collect();
    let deliveries = bench.deliver(&warehouse);
    bench.settle(&warehouse, &ids[0], None, discard("no")).unwrap();
    bench.settle(&warehouse, &ids[1], None, defer(1_000)).unwrap();
    let places: Vec<_> = ids.iter().map(|id| EventKey::of(id).unwrap().position).collect();
    let before = |bench: &Bench, at: usize| bench.state.partitions[0].waits_before(places[at]);
    assert_eq!([0, 1, 2, 3].map(|at| before(&bench, at)), [0, 0, 1, 2]);
    let missing = places[..3].iter().copied().collect();
    let changes = bench.state.partitions[0].unreadable_at(&missing);
    assert_eq!(changes.len(), 2);
    bench.commit(&changes);
    bench.check();
    assert_eq!(bench.counts(), [0, 1, 0, 3]);
    assert_eq!(bench.state.partitions[0].waits_before(places[3]), 0);
    bench.ack(&warehouse, &deliveries[3]).unwrap();
}
