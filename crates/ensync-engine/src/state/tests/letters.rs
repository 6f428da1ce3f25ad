//! Lists of dead letters, a bit at a time.

use ensync_core::{EventId, EventName, Publish};

use super::bench::*;
use crate::model::EventOptions;
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
