//! gRPC status ⇄ error, in one place.
//!
//! The status message carries the kind's own code as well, so that kinds that share a gRPC code survive between our two sides.

use ensync_core::{Error, ErrorKind};
use tonic::{Code, Status};

/// The longest status message that is written, in characters: it travels in a header, whose size peers limit.
#[cfg(feature = "server")]
const MAX_MESSAGE: usize = 1_024;

/// How tonic begins its own text for an answer without trailers. It has no other sign: the status has no source, and its code has
/// changed between versions of tonic.
const CUT_OFF: &str = "protocol error: missing grpc-status trailer";

/// Whether the status was made on this side because the stream or the connection failed; what a peer sent has no source.
pub(crate) fn is_local(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// What a status from a peer says.
pub(crate) fn from_status(status: &Status) -> Error {
    let (said, code) = (status.message(), status.code());
    if said.starts_with(CUT_OFF) {
        let text = "the answer was cut off before its end, as a proxy does whose engine has gone; it may have been carried out";
        return Error::new(ErrorKind::Unavailable, text).perhaps_done();
    }
    let coded = Error::from_refusal(said);
    if said
        .split_once(": ")
        .and_then(|(code, _)| ErrorKind::from_code(code))
        .is_some_and(|kind| !kind.is_of_this_side())
    {
        return coded;
    }
    // No code of ours in the text: the status code says what there is to say.
    let error = match said.trim().is_empty() {
        true => Error::new(kind_of(code), format!("the engine answered {code:?} without a reason")),
        false => Error::new(kind_of(code), coded.to_string()),
    };
    // Gateways turn what they refuse into such a status.
    let error = error.said_on_the_way();
    // Libraries and proxies answer so for what goes wrong on the way, of which they cannot know how far it came.
    match code {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted => error.perhaps_done(),
        _ => error,
    }
}

/// The status that refuses with this error.
#[cfg(feature = "server")]
pub(crate) fn to_status(error: &Error) -> Status {
    Status::new(code_of(error.kind()), error.to_refusal().chars().take(MAX_MESSAGE).collect::<String>())
}

fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument => ErrorKind::InvalidInput,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::Forbidden,
        Code::NotFound => ErrorKind::NotFound,
        // What gRPC libraries answer to a message above their size limit.
        Code::OutOfRange => ErrorKind::PayloadTooLarge,
        Code::ResourceExhausted => ErrorKind::LimitExceeded,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        // Nobody looked at the request. From a proxy it is a page that it does not have: a route that is not there, or not yet.
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Internal | Code::DataLoss => ErrorKind::Protocol,
        Code::Ok | Code::Cancelled | Code::Unknown | Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
            ErrorKind::Refused
        }
    }
}

#[cfg(feature = "server")]
fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidUrl
        | ErrorKind::InvalidEventName
        | ErrorKind::InvalidKey
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidPayload
        | ErrorKind::SchemaMismatch
        | ErrorKind::MalformedEnvelope => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Forbidden => Code::PermissionDenied,
        ErrorKind::UnknownEvent | ErrorKind::UnknownRecipient | ErrorKind::NotFound => Code::NotFound,
        ErrorKind::PayloadTooLarge => Code::OutOfRange,
        ErrorKind::LimitExceeded => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::StaleDelivery | ErrorKind::Conflict | ErrorKind::Refused => Code::FailedPrecondition,
        ErrorKind::Interrupted | ErrorKind::Closed => Code::Aborted,
        ErrorKind::Internal | ErrorKind::Protocol => Code::Internal,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_cut_off_is_worth_another_try() {
        let text = format!("{CUT_OFF}, stream was terminated without a final status");
        for code in [Code::Internal, Code::Unknown] {
            let error = from_status(&Status::new(code, &text));
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.may_have_happened() && error.is_retryable(), "{error}");
        }
        assert_eq!(from_status(&Status::internal("no such thing")).kind(), ErrorKind::Protocol);
    }

    #[test]
    fn a_foreign_status_is_read_by_its_code() {
        for (code, kind) in [
            (Code::InvalidArgument, ErrorKind::InvalidInput),
            (Code::Unauthenticated, ErrorKind::Unauthenticated),
            (Code::PermissionDenied, ErrorKind::Forbidden),
            (Code::NotFound, ErrorKind::NotFound),
            (Code::OutOfRange, ErrorKind::PayloadTooLarge),
            (Code::ResourceExhausted, ErrorKind::LimitExceeded),
            (Code::Unavailable, ErrorKind::Unavailable),
            (Code::DeadlineExceeded, ErrorKind::Timeout),
            (Code::Unimplemented, ErrorKind::Unsupported),
            (Code::Internal, ErrorKind::Protocol),
            (Code::DataLoss, ErrorKind::Protocol),
            (Code::Unknown, ErrorKind::Refused),
            (Code::Cancelled, ErrorKind::Refused),
            (Code::AlreadyExists, ErrorKind::Refused),
            (Code::FailedPrecondition, ErrorKind::Refused),
            (Code::Aborted, ErrorKind::Refused),
        ] {
            let error = from_status(&Status::new(code, "their: own words"));
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, "their: own words"));
            // What may have gone wrong behind somebody who passed it on.
            let passed = matches!(code, Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted);
            let unsure = passed || matches!(kind, ErrorKind::Timeout | ErrorKind::Protocol);
            assert_eq!(error.may_have_happened(), unsure, "{code:?}");
            let silent = from_status(&Status::new(code, ""));
            assert_eq!(silent.kind(), kind);
            assert!(silent.to_string().contains(&format!("{code:?}")), "{silent}");
        }
    }

    #[test]
    fn an_engine_of_ours_knows_what_it_did() {
        let error = from_status(&Status::unavailable("unavailable: the engine is stopping"));
        assert_eq!((error.kind(), error.may_have_happened()), (ErrorKind::Unavailable, false));
    }

    #[test]
    fn a_status_without_end_is_cut() {
        for text in ["x".repeat(1 << 20), format!("forbidden: {}", "x".repeat(1 << 20))] {
            assert!(from_status(&Status::unavailable(text)).to_string().len() < 1_100);
        }
    }

    #[test]
    fn what_only_this_side_can_know_is_not_taken_from_the_wire() {
        for text in ["closed: not sent, honestly", "interrupted: who knows"] {
            assert_eq!(Error::from_refusal(text).kind(), ErrorKind::Refused);
            assert_eq!(from_status(&Status::unavailable(text)).kind(), ErrorKind::Unavailable);
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn every_kind_an_engine_refuses_with_survives() {
        for &kind in ErrorKind::ALL {
            let status = to_status(&Error::new(kind, "subscribe: no"));
            assert_ne!(status.code(), Code::Ok);
            let read = from_status(&status);
            if !kind.is_of_this_side() {
                assert_eq!((read.kind(), read.to_string().as_str()), (kind, "subscribe: no"));
            }
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn peers_that_read_only_the_code_see_the_right_one() {
        for (kind, code) in [
            (ErrorKind::InvalidEventName, Code::InvalidArgument),
            (ErrorKind::Unauthenticated, Code::Unauthenticated),
            (ErrorKind::Forbidden, Code::PermissionDenied),
            (ErrorKind::UnknownEvent, Code::NotFound),
            (ErrorKind::LimitExceeded, Code::ResourceExhausted),
            (ErrorKind::Unavailable, Code::Unavailable),
            (ErrorKind::Internal, Code::Internal),
        ] {
            assert_eq!(to_status(&Error::new(kind, "no")).code(), code);
        }
        let long = to_status(&Error::new(ErrorKind::Refused, "é".repeat(5_000)));
        assert_eq!(long.message().chars().count(), MAX_MESSAGE);
    }
}
