//! What a client tells of itself: spans, log events, metrics. Every name that others may rely on is made here, and is in
//! `observability.md`.

pub(crate) mod metrics;
mod spans;
#[cfg(feature = "opentelemetry")]
mod trace_context;

#[cfg(feature = "metrics")]
pub use metrics::describe_metrics;
pub(crate) use spans::{Connecting, Publishing, Settling, delivered, handling};
#[cfg(feature = "opentelemetry")]
pub(crate) use trace_context::inject;

/// An event that cannot be opened, and that its reader does not want to see.
pub(crate) fn unopenable(kind: ensync_core::ErrorKind, policy: crate::Unopenable) {
    let policy = match policy {
        crate::Unopenable::HandOver => "hand_over",
        crate::Unopenable::Discard => "discard",
        crate::Unopenable::Leave => "leave",
    };
    metrics::count_by(metrics::UNOPENABLE, [("kind", kind.code()), ("policy", policy)]);
}

#[cfg(feature = "outbox")]
pub(crate) fn outbox_outcome(outcome: &crate::OutboxOutcome) {
    let name = match outcome {
        crate::OutboxOutcome::Accepted { .. } => "accepted",
        crate::OutboxOutcome::Parked { .. } => "parked",
        crate::OutboxOutcome::Expired { .. } => "expired",
        crate::OutboxOutcome::Dropped { .. } => "dropped",
        crate::OutboxOutcome::Damaged { .. } => "damaged",
        crate::OutboxOutcome::Missed { .. } => return,
    };
    metrics::count(metrics::OUTBOX, 1, Some(("outcome", name)));
}
