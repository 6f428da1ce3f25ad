//! Handing what a link brings to its subscriptions.

use std::sync::Arc;

use ensync_core::{Error, ErrorKind, Extension};
use futures::StreamExt;
use tokio::time::Instant;

use super::buffer::{DeliveryBuffer, Routed};
use super::flow::FlowControl;
use super::link::{Inbox, LiveLink};
use super::link_command::{HandBack, Left, LinkCommand, Turn};
use super::stream::StreamLife;
use super::{SHORTEST_LEASE, Shared};

/// Where an event goes.
pub(crate) enum Place {
    /// To who reads it, counted by this.
    Reader(Arc<DeliveryBuffer>, Arc<FlowControl>),
    /// Nowhere: its stream has ended, and is about to be asked for again.
    Ended,
    /// Nowhere: nobody is subscribed.
    Nobody,
}

/// Takes events off the link and hands each to its subscription's buffer. A slow reader holds up nobody else.
pub(super) async fn route(shared: &Shared, live: &LiveLink, mut inbox: Inbox) -> Error {
    let epoch = live.epoch();
    let asks = !live.welcome.config.has(Extension::FlowControl);
    while let Some(item) = inbox.next().await {
        let delivery = match item {
            Ok(delivery) => delivery,
            Err(error) => return error,
        };
        let bytes = delivery.payload.len() + delivery.metadata.as_str().len();
        live.vitals.came(u64::try_from(bytes).unwrap_or(u64::MAX));
        let event = delivery.event.clone();
        let flow =
            |subscribe: &_| FlowControl::new(subscribe, StreamLife::over(&live.life), asks, shared.commands.clone());
        let hand_back = match shared.registry.place(&event, epoch, flow) {
            Place::Reader(_, flow) if flow.overflows() => {
                if shared.may_log("overflow") {
                    tracing::warn!(%event, "the engine sends far more than was asked for, and takes no notice of a pause; what is over is not kept");
                }
                shared.hand_back(HandBack { event, id: delivery.id, block: delivery.block, epoch, seen: false });
                continue;
            }
            Place::Reader(buffer, flow) => {
                let until = delivery.lease.and_then(|lease| Instant::now().checked_add(lease));
                let half = delivery.lease.filter(|lease| *lease >= SHORTEST_LEASE).map(|lease| lease / 2);
                if let Some(due) = until.zip(half).and_then(|(until, half)| until.checked_sub(half)) {
                    shared.look_at(due);
                }
                let held = flow.enter(&delivery);
                let stream = flow.stream().clone();
                match buffer.push(Routed { delivery, stream, arrived: Instant::now(), until, held }) {
                    None => continue,
                    Some(left) => left.into(),
                }
            }
            Place::Ended => {
                // The rest of what an ended stream had brought; the engine has taken it back, or hears of it.
                shared.hand_back(HandBack { event, id: delivery.id, block: delivery.block, epoch, seen: false });
                continue;
            }
            Place::Nobody => {
                HandBack { event: event.clone(), id: delivery.id, block: delivery.block, epoch, seen: false }
            }
        };
        tracing::debug!(%event, id = %hand_back.id, "nobody takes this event; handed back");
        // First the word that nobody does, or the engine would send it straight back here.
        if shared.registry.leave_unknown(&event, epoch) {
            let left = Left { unread: vec![hand_back], epoch, turn: Turn::default() };
            shared.command(LinkCommand::Leave { event, left, said: None });
        } else {
            shared.hand_back(hand_back);
        }
    }
    Error::new(ErrorKind::Closed, format!("{} closed the connection", shared.endpoint()))
}
