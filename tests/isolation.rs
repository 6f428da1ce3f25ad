//! What one app can do with what belongs to another: nothing, and it learns nothing by trying.

use std::num::NonZeroU32;
use std::time::Duration;

use ensync_core::{
    AppId, Block, Command, Connector, Delay, Delivery, ErrorKind, EventId, EventName, Link, Metadata, Publish, Settle,
    Settlement, Subscribe, WirePayload,
};
use ensync_engine::{DeadLetter, NewApp, QueueStats, Rights};
use ensync_ws::frame::{Dialect, write_request};
use futures::{FutureExt, StreamExt};

use crate::over_every_transport;
use crate::raw::grpc::Grpc;
use crate::raw::proto::Message;
use crate::raw::ws::Ws;
use crate::world::{Transport, World, soon};

const EVENT: &str = "isolation/of/apps";

over_every_transport!(
    another_apps_events_do_not_exist,
    another_apps_subscriptions_are_not_touched,
    names_without_a_right_are_all_the_same,
);

async fn link(world: &World, app: &NewApp) -> Link {
    soon(world.connector().connect(&world.endpoint(), &app.app_key)).await.unwrap()
}

fn name(event: &str) -> EventName {
    event.parse().unwrap()
}

fn publish(event: &str, recipient: AppId) -> Command {
    Command::Publish(Publish {
        event: name(event),
        recipient,
        payload: WirePayload::from_wire("e30="),
        metadata: Metadata::default(),
        payload_metadata: None,
        idempotency_key: None,
    })
}

fn subscribe(event: &str) -> Command {
    Command::Subscribe(Subscribe { event: name(event), max_in_flight: NonZeroU32::new(8), max_bytes_in_flight: None })
}

/// Every way to settle, and to extend, a delivery.
fn settlements() -> Vec<Settlement> {
    let defer = |delay| Settlement::Defer { delay: Delay::new(delay).unwrap(), priority: 0, reason: "mine".into() };
    vec![
        Settlement::Ack,
        defer(Duration::ZERO),
        defer(Duration::from_secs(60)),
        Settlement::Discard { reason: "mine".into() },
        Settlement::Rollback,
        Settlement::Release,
        Settlement::Extend,
    ]
}

/// Every command about one event.
fn commands_about(id: &EventId, block: Option<Block>, event: Option<&str>) -> Vec<Command> {
    let settle = |how| Command::Settle(Settle { id: id.clone(), event: event.map(name), block, how });
    let replay = Command::Replay { id: id.clone(), event: name(event.unwrap_or(EVENT)) };
    settlements().into_iter().map(settle).chain([replay]).collect()
}

/// An app whose warehouse has one event in flight, one waiting, one deferred, one dead and one acknowledged.
struct Victim {
    link: Link,
    held: Delivery,
    /// One id of each state.
    ids: Vec<(EventId, Block)>,
}

impl Victim {
    async fn of(world: &World) -> Self {
        let shop = link(world, &world.shop).await;
        let mut link = link(world, &world.warehouse).await;
        let first = Command::Subscribe(Subscribe {
            event: name(EVENT),
            max_in_flight: NonZeroU32::new(1),
            max_bytes_in_flight: None,
        });
        link.transport.call(first).await.unwrap();
        for _ in 0..5 {
            soon(shop.transport.call(publish(EVENT, world.warehouse.app_id))).await.unwrap();
        }
        let mut ids = Vec::new();
        for how in [
            Settlement::Ack,
            Settlement::Discard { reason: "the victim's own words".into() },
            Settlement::Defer { delay: Delay::from_millis(3_600_000).unwrap(), priority: 0, reason: String::new() },
        ] {
            let delivery = soon(link.inbox.next()).await.unwrap().unwrap();
            ids.push((delivery.id.clone(), delivery.block));
            let settle = Settle { id: delivery.id, event: Some(delivery.event), block: Some(delivery.block), how };
            soon(link.transport.call(Command::Settle(settle))).await.unwrap();
        }
        let held = soon(link.inbox.next()).await.unwrap().unwrap();
        ids.push((held.id.clone(), held.block));
        Self { link, held, ids }
    }

    /// What an operator sees of it.
    async fn seen(world: &World) -> (Option<QueueStats>, Vec<DeadLetter>) {
        let queue = world.server.queue(EVENT, world.warehouse.app_id).await.unwrap();
        (queue, world.server.broker().dead_letters(None, None, 10).await.unwrap())
    }

    /// Nothing was delivered to it meanwhile, and what it holds is its own to settle.
    async fn check_unharmed(mut self) {
        assert!(self.link.inbox.next().now_or_never().is_none(), "nothing was delivered again");
        let Delivery { id, event, block, .. } = self.held;
        let settle = Settle { id, event: Some(event), block: Some(block), how: Settlement::Ack };
        soon(self.link.transport.call(Command::Settle(settle))).await.unwrap();
        let last = soon(self.link.inbox.next()).await.unwrap().unwrap();
        assert_eq!(last.attempt, Some(1));
    }
}

/// The text of a refusal, in which nothing is of another app.
fn words(world: &World, error: &ensync_core::Error) -> String {
    let text = error.to_string();
    for secret in [world.warehouse.app_id.to_string(), world.shop.app_id.to_string(), "victim".into()] {
        assert!(!text.contains(&secret), "{text}");
    }
    assert!(!text.bytes().any(|byte| byte.is_ascii_digit()), "no counts, no ids: {text}");
    text
}

async fn another_apps_events_do_not_exist(world: World) {
    let victim = Victim::of(&world).await;
    let stranger = world.server.create_app("stranger").await.unwrap();
    let stranger = link(&world, &stranger).await;
    // With a queue of its own under that name, and without.
    for subscribed in [false, true] {
        if subscribed {
            stranger.transport.call(subscribe(EVENT)).await.unwrap();
        }
        let before = Victim::seen(&world).await;
        assert_eq!(before.1.len(), 1);
        for (id, block) in &victim.ids {
            // An id of the same form that never was: another letter in its random part.
            let mut forged = id.to_string();
            forged.replace_range(3..4, if &forged[3..4] == "A" { "B" } else { "A" });
            let forged: EventId = forged.parse().unwrap();
            for block in [Some(*block), Block::new(7).ok()] {
                for event in [Some(EVENT), None] {
                    let theirs = commands_about(id, block, event);
                    let nobodys = commands_about(&forged, block, event);
                    for (theirs, nobodys) in theirs.into_iter().zip(nobodys) {
                        let what = format!("{theirs:?}");
                        let theirs = soon(stranger.transport.call(theirs)).await.unwrap_err();
                        let nobodys = soon(stranger.transport.call(nobodys)).await.unwrap_err();
                        assert_eq!(theirs.kind(), ErrorKind::NotFound, "{what}: {theirs}");
                        assert_eq!(words(&world, &theirs), words(&world, &nobodys), "{what}");
                        assert_eq!(theirs.kind(), nobodys.kind(), "{what}");
                    }
                }
            }
        }
        assert_eq!(Victim::seen(&world).await, before);
    }
    victim.check_unharmed().await;
}

async fn another_apps_subscriptions_are_not_touched(world: World) {
    let victim = Victim::of(&world).await;
    let stranger = world.server.create_app("stranger").await.unwrap();
    let mut stranger = link(&world, &stranger).await;
    let before = Victim::seen(&world).await;
    // These are about the stranger's own queue of that name, of which there may be none.
    let pause = || Command::Pause { event: name(EVENT), reason: "mine".into() };
    let resume = || Command::Continue { event: name(EVENT) };
    let unsubscribe = || Command::Unsubscribe { event: name(EVENT) };
    for command in
        [Command::Heartbeat, resume(), unsubscribe(), pause(), resume(), subscribe(EVENT), pause(), unsubscribe()]
    {
        soon(stranger.transport.call(command)).await.unwrap();
    }
    soon(stranger.transport.call(subscribe(EVENT))).await.unwrap();
    assert_eq!(Victim::seen(&world).await, before);
    assert!(stranger.inbox.next().now_or_never().is_none(), "another app's events came");
    victim.check_unharmed().await;
}

async fn names_without_a_right_are_all_the_same(world: World) {
    let _victim = Victim::of(&world).await;
    let stranger = world.server.create_app("stranger").await.unwrap();
    world.server.broker().grant(stranger.app_id, None, Rights::NONE).await.unwrap();
    let to = world.warehouse.app_id;
    let stranger = link(&world, &stranger).await;
    let id: EventId = "none".parse().unwrap();
    let before = Victim::seen(&world).await;
    let commands = |event: &str| {
        vec![
            publish(event, to),
            // Nor is it told whether there is such an app.
            publish(event, AppId::from_bytes([9; 32])),
            subscribe(event),
            Command::Replay { id: id.clone(), event: name(event) },
            Command::Pause { event: name(event), reason: String::new() },
            Command::Continue { event: name(event) },
        ]
    };
    for (known, unknown) in commands(EVENT).into_iter().zip(commands("isolation/of/nobody")) {
        let what = known.name();
        let known = soon(stranger.transport.call(known)).await.unwrap_err();
        let unknown = soon(stranger.transport.call(unknown)).await.unwrap_err();
        assert_eq!((known.kind(), unknown.kind()), (ErrorKind::Forbidden, ErrorKind::Forbidden), "{what}");
        assert_eq!(known.to_string().replace("of/apps", "of/nobody"), unknown.to_string(), "{what}");
        words(&world, &known);
    }
    assert_eq!(Victim::seen(&world).await, before);
}

/// Every command of the wire, in the name of `client_id`.
fn web_socket_frames(client_id: &str, victim: &Victim, to: AppId) -> Vec<String> {
    let client_id = client_id.parse().unwrap();
    let held = commands_about(&victim.held.id, Some(victim.held.block), Some(EVENT));
    let others = [
        publish(EVENT, to),
        subscribe(EVENT),
        Command::Unsubscribe { event: name(EVENT) },
        Command::Pause { event: name(EVENT), reason: String::new() },
        Command::Continue { event: name(EVENT) },
    ];
    let all = held.into_iter().chain(others);
    all.map(|command| write_request(&client_id, &command, Dialect::EXTENDED).unwrap()).collect()
}

/// The same over gRPC: the method, and its message.
fn grpc_calls(client_id: &str, victim: &Victim, to: AppId) -> Vec<(&'static str, Message)> {
    let Delivery { id, block, .. } = &victim.held;
    let block = block.as_u64();
    let about = || Message::new().text(1, client_id).text(2, id.as_str()).text(3, EVENT);
    let of = || Message::new().text(1, client_id).text(2, EVENT);
    let publish = || of().text(3, "e30=").text(4, &to.to_string());
    vec![
        ("Heartbeat", Message::new().text(1, client_id)),
        ("Disconnect", Message::new().text(1, client_id)),
        ("PublishMessage", publish()),
        ("PublishEvent", publish()),
        ("Subscribe", of()),
        ("Unsubscribe", of()),
        ("AcknowledgeMessage", about().number(4, block)),
        ("AcknowledgeEvent", about().number(4, block)),
        ("DeferMessage", about().number(4, 0).number(100, block)),
        ("DeferEvent", about().number(4, 60_000).number(100, block)),
        ("DiscardMessage", about().number(100, block)),
        ("DiscardEvent", about().number(100, block)),
        ("ExtendLease", about().number(4, block)),
        ("ReleaseMessage", about().number(4, block)),
        ("ReplayMessage", about()),
        ("ReplayEvent", about()),
        ("PauseMessages", of()),
        ("PauseEvents", of()),
        ("ContinueMessages", of()),
        ("ContinueEvents", of()),
    ]
}

#[tokio::test]
async fn a_web_socket_acts_for_its_own_login_only() {
    let world = World::start(Transport::WebSocket).await;
    let victim = Victim::of(&world).await;
    let stranger = world.server.create_app("stranger").await.unwrap();
    let address = world.server.addresses().next().unwrap();
    let mut ws = Ws::connect(address).await;
    ws.log_in(stranger.app_key.expose()).await;
    // Another connection's of the same app is not its own either.
    let mut second = Ws::connect(address).await;
    let sibling = second.log_in(stranger.app_key.expose()).await;
    let before = Victim::seen(&world).await;
    for client_id in [victim.link.welcome.client_id.expose(), &sibling, "nobody"] {
        for frame in web_socket_frames(client_id, &victim, world.warehouse.app_id) {
            let answer = soon(ws.ask(&frame)).await;
            assert_eq!(
                answer, "-FAIL:unauthenticated: CLIENT_ID is not what this connection's login was answered with",
                "the same for every id that is another's or nobody's"
            );
        }
    }
    assert_eq!(Victim::seen(&world).await, before);
    victim.check_unharmed().await;
}

/// Each call is refused, all in the same words.
async fn each_refused(grpc: &mut Grpc, calls: &[(&'static str, Message)]) {
    const WORDS: &str = "unauthenticated: no such session: it has ended, or never was; log in again";
    for (method, message) in calls {
        let answer = soon(grpc.call(method, message)).await.unwrap();
        match *method {
            // Their answers have no room for words.
            "Heartbeat" | "Disconnect" => assert!(answer.fields.numbers.is_empty(), "{method}: {answer:?}"),
            "Subscribe" => assert_eq!((answer.status.as_str(), answer.text.as_str()), ("16", WORDS)),
            _ => {
                assert_eq!(answer.fields.number(1), 0, "{method}: {answer:?}");
                assert!(answer.fields.texts.iter().all(|(_, text)| text == WORDS), "{method}: {answer:?}");
                assert_eq!(answer.fields.texts.len(), 1, "{method}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_grpc_call_needs_the_id_of_a_grpc_session() {
    let world = World::start(Transport::Grpc).await;
    let victim = Victim::of(&world).await;
    let stranger = world.server.create_app("stranger").await.unwrap();
    let address = world.server.addresses().next().unwrap();
    let mut grpc = Grpc::connect(address).await;
    grpc.log_in(stranger.app_key.expose()).await;
    let mut web_socket = Ws::connect(address).await;
    let other_wire = web_socket.log_in(world.warehouse.app_key.expose()).await;
    let in_process = world.server.in_process();
    let in_process = soon(in_process.connect(&world.endpoint(), &world.warehouse.app_key)).await.unwrap();
    let real = victim.link.welcome.client_id.expose().to_owned();
    assert!(real.len() >= 32, "192 bits in base64");
    let mut near = real.clone();
    near.replace_range(31..32, if real.ends_with('A') { "B" } else { "A" });
    let (short, upper, app) = (&real[..31], real.to_ascii_uppercase(), world.warehouse.app_id.to_string());
    let before = Victim::seen(&world).await;
    for client_id in
        ["", "nobody", &near, short, &upper, &app, &other_wire, in_process.welcome.client_id.expose(), "{};,"]
    {
        each_refused(&mut grpc, &grpc_calls(client_id, &victim, world.warehouse.app_id)).await;
    }
    assert_eq!(Victim::seen(&world).await, before);
    victim.check_unharmed().await;
}

#[tokio::test]
async fn a_session_that_was_left_is_worth_nothing() {
    let world = World::start(Transport::Grpc).await;
    let victim = Victim::of(&world).await;
    let address = world.server.addresses().next().unwrap();
    let mut grpc = Grpc::connect(address).await;
    // The same app as the victim: it is the session that counts.
    let left = grpc.log_in(world.warehouse.app_key.expose()).await;
    let goodbye = soon(grpc.call("Disconnect", &Message::new().text(1, &left))).await.unwrap();
    assert_eq!(goodbye.fields.number(1), 1);
    let before = Victim::seen(&world).await;
    each_refused(&mut grpc, &grpc_calls(&left, &victim, world.warehouse.app_id)).await;
    assert_eq!(Victim::seen(&world).await, before);
    victim.check_unharmed().await;
}

/// In one process no wire lies between, so a forged session is made of the types themselves.
#[tokio::test]
async fn a_client_id_with_another_app_is_no_session() {
    use ensync_core::{Peer, Service};
    let world = World::start(Transport::InProcess).await;
    let victim = Victim::of(&world).await;
    let stranger = world.server.create_app("stranger").await.unwrap();
    let before = Victim::seen(&world).await;
    for peer in [
        Peer { client_id: victim.link.welcome.client_id.clone(), app_id: stranger.app_id },
        Peer { client_id: "nobody".parse().unwrap(), app_id: world.warehouse.app_id },
    ] {
        let commands = commands_about(&victim.held.id, Some(victim.held.block), Some(EVENT));
        for command in commands.into_iter().chain([Command::Heartbeat, subscribe(EVENT), publish(EVENT, peer.app_id)]) {
            let error = soon(world.server.broker().handle(&peer, command)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
            assert_eq!(error.to_string(), "the session has ended; log in again");
        }
    }
    assert_eq!(Victim::seen(&world).await, before);
    victim.check_unharmed().await;
}
