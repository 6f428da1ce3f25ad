//! The WebSocket client as it is, over a pipe, and the engine's half of that as this seed has it.

use std::sync::Arc;
use std::time::Duration;

use ensync_client::Dialer;
use ensync_core::{AppKey, Command, Endpoint, Error, Link, Login, Result, Service, Session};
use ensync_ws::WsConnector;
use ensync_ws::frame::{self, Request};
use futures::stream::FuturesOrdered;
use futures::{SinkExt, StreamExt};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use crate::direct::Seat;
use crate::engine::Outcome;
use crate::network::{Fate, Network};

/// How much a pipe holds each way.
const PIPE: usize = 64 << 10;
/// How long what is under way may take to be answered when the engine leaves.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection is kept whose session is forgotten: who calls is told so, and who only listens cannot know before its end.
const FORGETS_WITHIN: Duration = Duration::from_secs(10);

pub async fn connect(
    network: &Arc<Network>,
    who: &'static str,
    fate: Fate,
    to: &Endpoint,
    app_key: &AppKey,
) -> Result<Link> {
    let (near, far) = tokio::io::duplex(PIPE);
    tokio::spawn(serve(network.clone(), who, fate, far));
    network.travel().await;
    WsConnector::new(Dialer::default().no_proxy()).connect_over(near, to, app_key).await
}

async fn serve(network: Arc<Network>, who: &'static str, fate: Fate, pipe: DuplexStream) {
    let cut = fate.cut.clone();
    tokio::select! {
        biased;
        () = cut.cancelled() => {}
        () = talk(&network, who, fate, pipe) => {}
    }
}

async fn talk(network: &Arc<Network>, who: &'static str, fate: Fate, pipe: DuplexStream) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(pipe).await else { return };
    let Some(app_key) = login_frame(&mut socket).await else { return };
    network.travel().await;
    let broker = network.broker();
    let login = Login { app_key, transport: "ws", remote: None };
    let admitted = match network.refusal() {
        Some(refusal) => Err(refusal),
        None => broker.login(login).await,
    };
    let Session { peer, mut inbox, welcome } = match admitted {
        Ok(session) => session,
        Err(refusal) => {
            network.travel().await;
            // In its own words, as other engines refuse.
            _ = socket.send(Message::text(format!("-FAIL:{refusal}"))).await;
            return;
        }
    };
    let seat = Seat { network: network.clone(), broker, peer };
    network.travel().await;
    let welcome = frame::write_welcome(&network.shown(welcome)).unwrap();
    if socket.send(Message::text(welcome)).await.is_err() {
        return;
    }
    let doubt = network.ledger.doubt(who);
    let (mut answers, mut records) = (FuturesOrdered::new(), FuturesOrdered::new());
    let (mut forgotten, mut leaving) = (None, None);
    while leaving.is_none() || !answers.is_empty() {
        let text = tokio::select! {
            biased;
            () = fate.forget.cancelled(), if forgotten.is_none() => {
                forgotten = Some(Box::pin(tokio::time::sleep(FORGETS_WITHIN)));
                seat.forgotten().await;
                continue;
            }
            () = async { if let Some(over) = forgotten.as_mut() { over.await } }, if forgotten.is_some() => return,
            () = fate.leave.cancelled(), if leaving.is_none() => {
                leaving = Some(Box::pin(tokio::time::sleep(LEAVES_WITHIN)));
                continue;
            }
            () = async { if let Some(over) = leaving.as_mut() { over.await } }, if leaving.is_some() => break,
            answer = answers.next(), if !answers.is_empty() => {
                match answer {
                    Some(Ok(Ok(Some(answer)))) => if socket.send(Message::text(answer)).await.is_err() { return },
                    // From here on each answer is taken for that of the request before its own.
                    Some(Ok(Ok(None))) => doubt.begins(),
                    // One answer alone cannot be reset: the connection is.
                    _ => return,
                }
                continue;
            }
            record = records.next(), if !records.is_empty() => {
                let Some(record) = record else { continue };
                if socket.send(Message::text(record)).await.is_err() { return }
                continue;
            }
            delivery = inbox.next(), if forgotten.is_none() && leaving.is_none() => {
                let Some(mut delivery) = delivery else {
                    network.in_turn(who).await;
                    break;
                };
                if network.engine.lacks("leases") {
                    delivery.lease = None;
                }
                records.push_back(async move {
                    network.travel().await;
                    frame::write_record(&delivery)
                });
                continue;
            }
            message = socket.next(), if leaving.is_none() => match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                // The answer to a ping goes out with the next look at the socket.
                Some(Ok(_)) => { network.flows().await; continue }
            },
        };
        network.flows().await;
        let command = match Request::parse(&text) {
            Ok(Request::Command { command, .. }) => Ok(command),
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        answers.push_back(tokio::spawn(answer(network.clone(), (seat.broker.clone(), seat.peer.clone()), command)));
    }
    let goodbye = CloseFrame { code: CloseCode::Away, reason: "the engine leaves".into() };
    network.travel().await;
    _ = socket.close(Some(goodbye)).await;
}

async fn login_frame(socket: &mut WebSocketStream<DuplexStream>) -> Option<AppKey> {
    loop {
        match socket.next().await? {
            Ok(Message::Text(text)) => match Request::parse(&text) {
                Ok(Request::Login(app_key)) => return Some(app_key),
                _ => return None,
            },
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// The engine broke the connection instead of answering.
struct Reset;

/// What the engine answers, if it does. It goes on if the connection does not.
async fn answer(
    network: Arc<Network>,
    (broker, peer): (ensync_engine::Broker, ensync_core::Peer),
    command: Result<Command, Error>,
) -> Result<Option<String>, Reset> {
    network.travel().await;
    let outcome = match command {
        Ok(command) => {
            network.ledger.sent(&command);
            if network.engine.breaks_at(&command) {
                network.cut();
            }
            network.engine.carry_out(&broker, &peer, command).await
        }
        Err(error) => Outcome::Answer(Err(error)),
    };
    network.travel().await;
    match outcome {
        Outcome::Answer(answer) => Ok(Some(frame::write_answer(&answer))),
        Outcome::Silence => Ok(None),
        Outcome::Reset => Err(Reset),
    }
}
