//! Spans and log events. No payload, no app key and no client id is in any of them.

use ensync_core::{Endpoint, Error, ErrorKind, EventId, EventName, Link, Result, Scheme, Settlement, report};
use tokio::time::Instant;
use tracing::Span;
use tracing::field::{Empty, display};

use super::metrics::{self, Counted};
use crate::{Event, PartialPublish, Receipt};

/// What these are filtered by, wherever they stand.
const TARGET: &str = "ensync_client";

/// One attempt to connect by one URL.
pub(crate) struct Connecting<'a> {
    span: Span,
    endpoint: &'a Endpoint,
}

impl<'a> Connecting<'a> {
    pub(crate) fn begin(endpoint: &'a Endpoint) -> Self {
        Self { span: tracing::info_span!(target: TARGET, "ensync.connect", %endpoint, error_kind = Empty), endpoint }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// `again` if the client was connected before. The link that comes out counts as long as it lives.
    pub(crate) fn end(&self, outcome: Result<Link>, again: bool) -> Result<Link> {
        self.span.in_scope(|| match outcome {
            Ok(link) => {
                let scheme = match self.endpoint.scheme() {
                    Scheme::Grpc => "grpc",
                    Scheme::WebSocket => "ws",
                };
                metrics::count(metrics::CONNECTS, 1, Some(("scheme", scheme)));
                if again {
                    metrics::count(metrics::RECONNECTS, 1, None);
                }
                tracing::debug!(target: TARGET, endpoint = %self.endpoint, "connected");
                Ok(counted(link))
            }
            Err(error) => {
                failed(&self.span, metrics::CONNECT_FAILURES, 1, &error);
                tracing::debug!(target: TARGET, endpoint = %self.endpoint, error_kind = error.kind().code(), error = %report(&error), "not connected");
                Err(error)
            }
        })
    }
}

/// The same link, counted until its inbox ends or is dropped.
fn counted(link: Link) -> Link {
    if cfg!(not(feature = "metrics")) {
        return link;
    }
    let up = Counted::new(metrics::CONNECTIONS);
    let inbox = futures::StreamExt::inspect(link.inbox, move |_| {
        let _ = &up;
    });
    Link { inbox: Box::pin(inbox), ..link }
}

/// A publish, from being awaited to its last answer.
pub(crate) struct Publishing {
    span: Span,
    since: Instant,
}

impl Publishing {
    /// `queued` if it goes to the outbox rather than to the engine.
    pub(crate) fn begin(
        endpoint: &Endpoint,
        event: &Result<EventName>,
        recipients: usize,
        bytes: usize,
        queued: bool,
    ) -> Self {
        let event = event.as_ref().map_or("", |event| event.as_str());
        let span = tracing::info_span!(target: TARGET, "ensync.publish",
            otel.kind = "producer",
            %endpoint,
            event,
            recipients,
            bytes,
            queued,
            id = Empty,
            error_kind = Empty,
        );
        Self { span, since: Instant::now() }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn end(&self, outcome: &Result<Receipt>) {
        metrics::seconds(metrics::PUBLISH_SECONDS, self.since.elapsed());
        self.span.in_scope(|| match outcome {
            Ok(receipt) => {
                let accepted = u64::try_from(receipt.iter().count()).unwrap_or(u64::MAX);
                metrics::count(metrics::PUBLISHED, accepted, None);
                self.span.record("id", display(receipt.id()));
                tracing::debug!(target: TARGET, id = %receipt.id(), "published");
            }
            Err(error) => {
                self.span.record("error_kind", error.kind().code());
                match PartialPublish::of(error) {
                    Some(partial) => {
                        let accepted = u64::try_from(partial.accepted.len()).unwrap_or(u64::MAX);
                        metrics::count(metrics::PUBLISHED, accepted, None);
                        for (_, error) in &partial.failed {
                            metrics::count(metrics::PUBLISH_FAILURES, 1, Some(("kind", error.kind().code())));
                        }
                    }
                    None => metrics::count(metrics::PUBLISH_FAILURES, 1, Some(("kind", error.kind().code()))),
                }
                tracing::debug!(target: TARGET, error_kind = error.kind().code(), error = %report(error), "not published");
            }
        });
    }

    /// The same for one that went to the outbox.
    #[cfg(feature = "outbox")]
    pub(crate) fn end_queued(&self, outcome: &Result<crate::QueuedPublish>) {
        self.span.in_scope(|| match outcome {
            Ok(_) => tracing::debug!(target: TARGET, "queued"),
            Err(error) => {
                failed(&self.span, metrics::PUBLISH_FAILURES, 1, error);
                tracing::debug!(target: TARGET, error_kind = error.kind().code(), error = %report(error), "not queued");
            }
        });
    }
}

/// A subscription hands out an event.
pub(crate) fn delivered(event: &Event) {
    metrics::count(metrics::DELIVERED, 1, None);
    tracing::debug!(target: TARGET, event = %event.name(), id = %event.id(), attempt = event.attempt(), "delivered");
}

/// The span of whatever is done with an event.
pub(crate) fn handling(event: &Event) -> Span {
    let span = tracing::info_span!(target: TARGET, "ensync.handle",
        otel.kind = "consumer",
        event = %event.name(),
        id = %event.id(),
        attempt = event.attempt(),
    );
    #[cfg(feature = "opentelemetry")]
    if event.is_traced() {
        super::trace_context::link(&span, event.metadata());
    }
    span
}

/// A settlement.
pub(crate) struct Settling {
    span: Span,
    settlement: &'static str,
}

impl Settling {
    pub(crate) fn begin(event: &EventName, id: &EventId, how: &Settlement) -> Self {
        let settlement = how.name();
        let span = tracing::info_span!(target: TARGET, "ensync.settle", %event, %id, settlement, error_kind = Empty);
        Self { span, settlement }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn end<T>(&self, outcome: &Result<T>) {
        self.span.in_scope(|| match outcome {
            Ok(_) => {
                metrics::count(metrics::SETTLED, 1, Some(("settlement", self.settlement)));
                tracing::debug!(target: TARGET, settlement = self.settlement, "settled");
            }
            Err(error) => {
                failed(&self.span, metrics::SETTLE_FAILURES, 1, error);
                tracing::debug!(target: TARGET, settlement = self.settlement, error_kind = error.kind().code(), error = %report(error), "not settled");
            }
        });
    }
}

fn failed(span: &Span, metric: metrics::Metric, by: u64, error: &Error) {
    let kind: ErrorKind = error.kind();
    span.record("error_kind", kind.code());
    metrics::count(metric, by, Some(("kind", kind.code())));
}
