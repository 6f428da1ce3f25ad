use proptest::prelude::*;

use super::super::bench::*;

/// What can happen. Sessions, names and deliveries are numbers modulo how many there are.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Publish {
        recipient: u8,
        name: usize,
        transient: bool,
        key: Option<u8>,
        refused: bool,
    },
    Login(u8),
    Logout(usize),
    Subscribe {
        session: usize,
        name: usize,
        max: Option<u32>,
    },
    Unsubscribe {
        session: usize,
        name: usize,
    },
    Pause {
        session: usize,
        name: usize,
    },
    Continue {
        session: usize,
        name: usize,
    },
    /// Several settlements in one batch.
    Settle {
        which: Vec<(usize, u8, bool)>,
        refused: bool,
    },
    Deliver(usize),
    Advance(u64),
    Requeue(usize),
    DropDead(usize),
    Restart,
    Checkpoint,
}

/// What happens next.
pub(super) fn op() -> impl Strategy<Value = Op> {
    let session = 0..6_usize;
    let name = 0..2_usize;
    let rarely = || prop::bool::weighted(0.1);
    let publish = (SHOP..=WAREHOUSE, name.clone(), prop::bool::weighted(0.2), prop::option::of(0..8_u8), rarely());
    let target = || (session.clone(), name.clone());
    prop_oneof![
        12 => publish.prop_map(|(recipient, name, transient, key, refused)| {
            Op::Publish { recipient, name, transient, key, refused }
        }),
        2 => (SHOP..=WAREHOUSE).prop_map(Op::Login),
        1 => session.clone().prop_map(Op::Logout),
        4 => (target(), prop::option::of(1..4_u32)).prop_map(|((session, name), max)| {
            Op::Subscribe { session, name, max }
        }),
        1 => target().prop_map(|(session, name)| Op::Unsubscribe { session, name }),
        1 => target().prop_map(|(session, name)| Op::Pause { session, name }),
        1 => target().prop_map(|(session, name)| Op::Continue { session, name }),
        10 => (prop::collection::vec((0..64_usize, 0..5_u8, any::<bool>()), 1..4), rarely())
            .prop_map(|(which, refused)| Op::Settle { which, refused }),
        8 => (1..8_usize).prop_map(Op::Deliver),
        3 => prop_oneof![1..50_u64, 900..1_100_u64, 2_900..3_100_u64, 59_000..61_000_u64].prop_map(Op::Advance),
        1 => (0..8_usize).prop_map(Op::Requeue),
        1 => (0..8_usize).prop_map(Op::DropDead),
        1 => Just(Op::Restart),
        1 => Just(Op::Checkpoint),
    ]
}
