//! The published Python and Node clients, unmodified, against the engine, with our own clients on the other side.
//!
//! - `setup`: gets the clients, with the script of that name;
//! - `peers`: the scripts that run them;
//! - `peer`: a client in a process of its own;
//! - `world`: the engine and the apps;
//! - `steps`: what each client is put through, and its known defects;
//! - `many`: one publish of ours to all of them;
//! - `hybrid`: events to three of them, from each of them;
//! - `json`: what JSON means to them, and documents through each of them and back;
//! - `table`: the README, and the page beside this file, say the same.

mod hybrid;
mod json;
mod many;
mod peer;
mod setup;
mod steps;
mod table;
mod world;

use peer::{Kind, Peer};
use world::World;

/// Puts a client through every step.
async fn every_step(kind: Kind) {
    let Some(clients) = setup::clients().await else { return };
    let (mut world, mut peer) = (World::start().await, Peer::spawn(kind, clients));
    let mut found = Vec::new();
    macro_rules! steps {
        ($($title:literal $step:ident),* $(,)?) => {
            $(found.push(($title, steps::$step(&mut world, &mut peer).await));)*
        };
    }
    steps!(
        "log in" log_in,
        "publish to one" publish_to_one,
        "publish to three" publish_to_three,
        "subscribe" subscribe,
        "auto-ack" auto_ack,
        "manual ack" manual_ack,
        "defer" defer,
        "discard" discard,
        "rollback" rollback,
        "replay" replay,
        "pause" pause,
        "resume" resume,
        "unsubscribe" unsubscribe,
        "reconnect after a restart" reconnect,
        "reconnect after a crash" reconnect_after_crash,
    );
    table::check(kind, &found);
}

#[tokio::test]
async fn ensync_sdk_0_4_4_over_grpc() {
    every_step(Kind::Grpc044).await;
}

#[tokio::test]
async fn ensync_sdk_0_3_3_over_grpc() {
    every_step(Kind::Grpc033).await;
}

#[tokio::test]
async fn ensync_sdk_0_3_3_over_web_socket() {
    every_step(Kind::WebSocket033).await;
}

#[tokio::test]
async fn ensync_sdk_ws_0_4_3() {
    every_step(Kind::WebSocket043).await;
}

#[tokio::test]
async fn ensync_client_sdk_0_0_18() {
    every_step(Kind::Node).await;
}

#[tokio::test]
async fn one_publish_to_all_of_them() {
    let Some(clients) = setup::clients().await else { return };
    for (kind, found) in many::one_publish_to_all(clients).await {
        table::check(kind, &found);
    }
}

#[tokio::test]
async fn events_to_three_from_each_of_them() {
    let Some(clients) = setup::clients().await else { return };
    if let Some(envelopes) = setup::envelopes(clients) {
        table::check_hybrid(&hybrid::everybody_to_everybody(clients, envelopes).await);
    }
}

#[tokio::test]
async fn json_means_the_same_to_python_and_node() {
    let Some(clients) = setup::clients().await else { return };
    json::what_we_take_is_taken(clients).await;
}

#[tokio::test]
async fn values_have_the_types_that_the_published_clients_give_them() {
    let Some(clients) = setup::clients().await else { return };
    json::skeletons::agree(clients).await;
    json::skeletons::have_no_checker(clients);
}

/// Documents through a client and back.
async fn documents(kind: Kind) {
    let Some(clients) = setup::clients().await else { return };
    json::documents::go_through(kind, clients).await;
}

#[tokio::test]
async fn documents_through_ensync_sdk_0_4_4_over_grpc() {
    documents(Kind::Grpc044).await;
}

#[tokio::test]
async fn documents_through_ensync_sdk_0_3_3_over_grpc() {
    documents(Kind::Grpc033).await;
}

#[tokio::test]
async fn documents_through_ensync_sdk_0_3_3_over_web_socket() {
    documents(Kind::WebSocket033).await;
}

#[tokio::test]
async fn documents_through_ensync_sdk_ws_0_4_3() {
    documents(Kind::WebSocket043).await;
}

#[tokio::test]
async fn documents_through_ensync_client_sdk_0_0_18() {
    documents(Kind::Node).await;
}
