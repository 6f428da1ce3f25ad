//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>) in the headers of an event's metadata.

use std::collections::BTreeMap;
use std::str::FromStr;

use ensync_core::Metadata;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use serde_json::Value;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// Section 3.3.1.5: what must be carried; more need not be.
const MAX_STATE: usize = 512;

/// Writes the current span's context into the headers, where the caller has not put one there himself.
pub(crate) fn inject(headers: &mut BTreeMap<String, String>) {
    if headers.contains_key(PARENT) {
        return;
    }
    let of_span = Span::current().context();
    let of_task = Context::current();
    let found = [&of_span, &of_task].map(|context| context.span().span_context().clone());
    let Some(context) = found.into_iter().find(SpanContext::is_valid) else { return };
    headers.insert(PARENT.to_owned(), Value::from(write(&context)).to_string());
    let state = context.trace_state().header();
    if !state.is_empty() && state.len() <= MAX_STATE {
        headers.insert(STATE.to_owned(), Value::from(state).to_string());
    }
}

/// Links a span to the one that an event was published in, as the messaging conventions of OpenTelemetry have it. What is written
/// there comes from a stranger, and is ignored where it is not in order.
pub(super) fn link(span: &Span, metadata: &Metadata) {
    let headers = metadata.headers();
    let text = |key| headers.get(key).and_then(Value::as_str);
    if let Some(context) = text(PARENT).and_then(|parent| read(parent, text(STATE))) {
        span.add_link(context);
    }
}

/// Section 3.2.
fn write(context: &SpanContext) -> String {
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags)
}

/// Sections 3.2 and 4.3: of a later version the first fields are read, if they look as in this one.
fn read(parent: &str, state: Option<&str>) -> Option<SpanContext> {
    let fields = parent.get(..55)?;
    let mut parts = fields.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, len| text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex(version, 2) || version == "ff" || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let rest = parent.get(55..)?;
    if !rest.is_empty() && (version == "00" || !rest.starts_with('-')) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    // A state that is not in order does not spoil the parent.
    let state = state.filter(|state| state.len() <= MAX_STATE).and_then(|state| TraceState::from_str(state).ok());
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, state.unwrap_or_default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn what_is_written_is_read() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let context = read(&parent, Some("a=1,b=2")).unwrap();
        assert_eq!(write(&context), parent);
        assert!(context.is_remote() && context.is_sampled());
        assert_eq!(context.trace_state().header(), "a=1,b=2");
        assert!(!read(&format!("00-{TRACE}-{SPAN}-00"), None).unwrap().is_sampled());
        // Flags of later versions, and a later version.
        assert_eq!(write(&read(&format!("00-{TRACE}-{SPAN}-ff"), None).unwrap()), parent);
        assert_eq!(write(&read(&format!("01-{TRACE}-{SPAN}-01-more"), None).unwrap()), parent);
    }

    #[test]
    fn what_is_not_in_order_is_ignored() {
        let zeros = |n| "0".repeat(n);
        for parent in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("01-{TRACE}-{SPAN}-01more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", zeros(32)),
            format!("00-{TRACE}-{}-01", zeros(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-zz"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{}é-{SPAN}-01", &TRACE[..30]),
            "é".repeat(40),
            "0".repeat(1 << 20),
        ] {
            assert!(read(&parent, None).is_none(), "{parent:.80}");
        }
        let parent = format!("00-{TRACE}-{SPAN}-01");
        for state in ["no equals sign", "Ä=1", &"a=1,".repeat(200)] {
            assert_eq!(read(&parent, Some(state)).unwrap().trace_state().header(), "", "{state:.40}");
        }
    }
}
