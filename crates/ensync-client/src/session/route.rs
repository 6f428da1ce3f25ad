//! Handing what a link brings to its subscriptions.

use ensync_core::{Error, ErrorKind, Extension};
use futures::StreamExt;
use tokio::time::Instant;

use super::Shared;
use super::buffer::Routed;
use super::flow::FlowControl;
use super::link::{Inbox, LiveLink};
use super::link_command::{HandBack, LinkCommand};

/// Takes events off the link and hands each to its subscription's buffer. A slow reader holds up nobody else.
pub(super) async fn route(shared: &Shared, live: &LiveLink, mut inbox: Inbox) -> Error {
    let epoch = live.epoch();
    let asks = !live.welcome.config.has(Extension::FlowControl);
    while let Some(item) = inbox.next().await {
        let delivery = match item {
            Ok(delivery) => delivery,
            Err(error) => return error,
        };
        live.vitals.sign();
        let event = delivery.event.clone();
        let flow = |subscribe: &_| FlowControl::new(subscribe, epoch, asks, shared.commands.clone());
        let hand_back = match shared.registry.buffer(&event, epoch, flow) {
            Some((_, flow)) if flow.overflows() => {
                if shared.may_log("overflow") {
                    tracing::warn!(%event, "the engine sends far more than was asked for, and takes no notice of a pause; what is over is not kept");
                }
                shared.hand_back(HandBack { event, id: delivery.id, block: delivery.block, epoch, seen: false });
                continue;
            }
            Some((buffer, flow)) => {
                let until = delivery.lease.and_then(|lease| Instant::now().checked_add(lease));
                shared.leased(delivery.lease);
                let held = flow.enter(&delivery);
                match buffer.push(Routed { delivery, link: live.life.clone(), arrived: Instant::now(), until, held }) {
                    None => continue,
                    Some(left) => left.into(),
                }
            }
            None => HandBack { event: event.clone(), id: delivery.id, block: delivery.block, epoch, seen: false },
        };
        tracing::debug!(%event, id = %hand_back.id, "nobody takes this event; handed back");
        // First the word that nobody does, or the engine would send it straight back here.
        if shared.registry.leave_unknown(&event, epoch) {
            shared.command(LinkCommand::Leave { event, unread: vec![hand_back], epoch, said: None });
        } else {
            shared.hand_back(hand_back);
        }
    }
    Error::new(ErrorKind::Closed, format!("{} closed the connection", shared.endpoint()))
}
