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

#[cfg(feature = "outbox")]
pub(crate) fn outbox_outcome(outcome: &crate::Outcome) {
    let name = match outcome {
        crate::Outcome::Accepted { .. } => "accepted",
        crate::Outcome::Parked { .. } => "parked",
        crate::Outcome::Expired { .. } => "expired",
        crate::Outcome::Dropped { .. } => "dropped",
        crate::Outcome::Damaged { .. } => "damaged",
        crate::Outcome::Missed { .. } => return,
    };
    metrics::count(metrics::OUTBOX, 1, Some(("outcome", name)));
}
