use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::log::MemoryLog;
use crate::{BrokerOptions, TokioClock};

/// A list over several partitions takes no more looks than one over one, and goes on where it was left: also behind a partition of which
/// all was seen by then.
#[tokio::test(start_paused = true)]
async fn partitions_share_the_looks_of_a_request() {
    const COUNT: u32 = 4;
    let log = MemoryLog::with_partitions(COUNT.try_into().unwrap());
    let options = BrokerOptions { clock: Arc::new(TokioClock::new()), ..BrokerOptions::dev() };
    let broker = Broker::start(options, log).await.unwrap();
    // Each partition is a list of so many numbers that are its own, of which a look finds none or the next.
    for (each, finds) in [(1, true), (16, true), (24, false), (32, true), (64, true), (100, true)] {
        let looks = Arc::new(AtomicUsize::new(0));
        let look = {
            let looks = looks.clone();
            move |partition: &Partition, after: Option<u32>, _: usize| {
                looks.fetch_add(1, Ordering::SeqCst);
                let nth = after.map_or(0, |after| after / COUNT + 1);
                if nth >= each {
                    return (Vec::new(), None);
                }
                let number = partition.share().queue_from(nth * COUNT).unwrap();
                (Vec::from_iter(finds.then_some(number)), (nth + 1 < each).then_some(number))
            }
        };
        let (mut found, mut after) = (Vec::new(), None::<u32>);
        loop {
            let partitions = broker.partitions_of(None, after.map(|after| (after % COUNT) as usize));
            let List { found: more, next, .. } =
                broker.through(partitions, after, usize::MAX, look.clone(), |last| last).await.unwrap();
            assert!(looks.swap(0, Ordering::SeqCst) <= PIECES);
            found.extend(more);
            after = next;
            if after.is_none() {
                break;
            }
        }
        found.sort_unstable();
        let all: Vec<_> = (0..COUNT * each).filter(|_| finds).collect();
        assert_eq!(found, all, "{each}");
    }
}
