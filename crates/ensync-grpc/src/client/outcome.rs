//! What became of a call that did not bring an answer.

use std::error::Error as StdError;

use ensync_core::Error;
use tonic::Status;

use super::gateway::NotGrpc;
use crate::status;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine refused, in its answer.
    Refused(Error),
    /// A status came instead: from the engine, or of this side's making.
    Status(Status),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// What a status says of its call.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Somebody answered: an engine, or a proxy before it.
    Answered(Error),
    /// Nobody looked at the request, for the connection had ended or takes no more.
    NotSent,
    /// REFUSED_STREAM. RFC 9113 section 8.7 promises that nobody processed the request, but HAProxy says it of any request whose answer
    /// it has not begun, so also of those that it had passed on to an engine which then went away.
    GivenBack,
    /// The stream or the connection failed meanwhile.
    Unknown,
}

pub(super) fn of(status: &Status) -> Outcome {
    let mut cause = StdError::source(status);
    if cause.is_none() {
        return Outcome::Answered(status::from_status(status));
    }
    while let Some(error) = cause {
        if let Some(answer) = error.downcast_ref::<NotGrpc>() {
            return Outcome::Answered(answer.error());
        }
        // hyper is "canceled" for requests that it returns from its queue, or does not take; of one it has begun to write it says
        // something else.
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return Outcome::NotSent;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>().filter(|error| error.is_remote()) {
            // RFC 9113 section 6.8: h2 gives this to streams above the last one that the goodbye names, and to new ones.
            if error.is_go_away() {
                return Outcome::NotSent;
            }
            if error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
                return Outcome::GivenBack;
            }
        }
        cause = error.source();
    }
    Outcome::Unknown
}

/// The page that a login was answered with, if it was one.
pub(super) fn page(status: &Status) -> Option<&NotGrpc> {
    let mut cause = StdError::source(status);
    while let Some(error) = cause {
        if let Some(answer) = error.downcast_ref() {
            return Some(answer);
        }
        cause = error.source();
    }
    None
}
