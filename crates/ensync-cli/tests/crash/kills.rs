//! Killed again and again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ensync_engine::store;
use serde_json::Value;

use crate::common::Keys;
use crate::files::{Look, Work, tear};
use crate::ledger::{Entry, Ledger, Settlement};
use crate::load::{Load, drain};
use crate::process::{Process, ensync, output, partitions};

/// How often the engine is killed under load; more with `ENSYNC_KILLS`.
fn kills() -> usize {
    std::env::var("ENSYNC_KILLS").ok().map_or(5, |kills| kills.parse().expect("ENSYNC_KILLS: a number"))
}

/// What a command of an administrator says of a data directory that no engine uses.
pub(crate) fn list(what: &str, data: &Path) -> Vec<Value> {
    let mut command = ensync(None);
    command.args([what, "list", "--json", "--data"]).arg(data);
    if what == "dead-letter" {
        command.args(["--limit", "1000000"]);
    }
    serde_json::from_str(&output(command)).unwrap()
}

pub(crate) fn dead_letters(data: &Path) -> BTreeSet<String> {
    let letters = list("dead-letter", data);
    assert!(letters.iter().all(|letter| letter["reason"] == "of no use"), "{letters:?}");
    letters.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

/// An answered discard is a dead letter, and nothing is that nobody discarded.
fn check_dead_letters(dead: &BTreeSet<String>, ledger: &Ledger) {
    let entries = ledger.entries();
    let discarded = |answered: bool| {
        let which = move |entry: &&Entry| {
            entry.is_settled(Settlement::Discard) || !answered && entry.is_in_doubt(Settlement::Discard)
        };
        entries.values().filter(which).map(|entry| entry.id.clone()).collect::<BTreeSet<_>>()
    };
    assert!(dead.is_superset(&discarded(true)), "no dead letters: {:?}", discarded(true).difference(dead));
    assert!(dead.is_subset(&discarded(false)), "never discarded: {:?}", dead.difference(&discarded(false)));
}

async fn check_files(data: &Path) {
    let report = store::verify(data).await.unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_event_is_lost_and_no_settled_one_comes_back() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let (mut keys, mut random) = (Keys::new(), fastrand::Rng::new());
    println!("seed {}", random.get_seed());
    let (ledger, mut work) = (Arc::new(Ledger::default()), Work::default());
    let (mut torn, mut cut_short, mut verified, mut listed) = (0, 0, 0, 0);
    for round in 0..kills() {
        let process = Process::start(&data, &mut keys);
        let before = Look::at(&data);
        let load = Load::start(&process, &keys, &ledger).await;
        load.run(random.usize(1..400), &ledger).await;
        process.kill();
        load.stop().await;
        work.add(&before, &Look::at(&data));
        if random.bool() && tear(&data, &mut random) {
            torn += 1;
        }
        if round % 2 == 0 {
            check_files(&data).await;
            verified += 1;
        }
        if random.u8(0..3) == 0 {
            Process::cut_short(&data, &mut random);
            cut_short += 1;
        }
        if round % 3 == 1 {
            check_dead_letters(&dead_letters(&data), &ledger);
            listed += 1;
        }
    }

    // What is stored now decides of each discard that was not answered whether it happened; if not, the drain waits for the event.
    let doubtful: Vec<u64> = {
        let entries = ledger.entries();
        let in_doubt = |entry: &Entry| entry.tried.is_some() && !entry.answered;
        entries.iter().filter(|(_, entry)| entry.accepted && in_doubt(entry)).map(|(n, _)| *n).collect()
    };
    let dead = dead_letters(&data);
    check_dead_letters(&dead, &ledger);
    ledger.owe_what_was_not_discarded(&dead);
    let process = Process::start(&data, &mut keys);
    let before = Look::at(&data);
    ledger.mark();
    let owed = ledger.owed().len();
    let settled = |what| ledger.count(|entry| entry.is_settled(what));
    let (acked, discarded, deferred) =
        (settled(Settlement::Ack), settled(Settlement::Discard), settled(Settlement::DeferLong));
    let was_deferred = ledger.count(|entry| entry.was_deferred);
    drain(&process, &keys, &ledger).await;
    process.kill();
    work.add(&before, &Look::at(&data));

    assert_eq!(dead_letters(&data), dead, "what is dead stays so, and nothing joins it");
    check_files(&data).await;
    let queues = list("queue", &data);
    assert_eq!(queues.len(), partitions(), "{queues:?}");
    let waiting = queues.iter().map(|queue| queue["deferred"].as_u64().unwrap() as usize).sum();
    // Where the answer to a long defer was lost, it may have been stored or not; then it came.
    let perhaps = ledger.count(|entry| entry.is_in_doubt(Settlement::DeferLong));
    assert!((deferred..=deferred + perhaps).contains(&waiting), "{deferred}, {perhaps} in doubt: {queues:?}");
    let entries = ledger.entries();
    println!(
        "{} kills, {cut_short} starts cut short, {torn} torn ends; at least {} rolls, {} checkpoints, {} segments dropped",
        kills(),
        work.rolls,
        work.checkpoints,
        work.drops
    );
    println!("{verified} times all files read and {listed} times dead letters listed in between, no damage");
    println!(
        "{} accepted, {acked} acknowledged, {discarded} discarded, {was_deferred} deferred ({deferred} for long), \
         {} answers lost; {owed} owed at the end, {} delivered then; {} dead letters, {waiting} deferred still; 0 lost, \
         0 came back, 0 before their time",
        entries.values().filter(|entry| entry.accepted).count(),
        doubtful.len(),
        entries.values().filter(|entry| entry.came).count(),
        dead.len(),
    );
    if kills() >= 5 {
        assert!(work.rolls > 0 && work.checkpoints > 0 && work.drops > 0, "too little was stored: {work:?}");
        assert_eq!(work.logs.len(), partitions(), "in each partition: {work:?}");
    }
}
