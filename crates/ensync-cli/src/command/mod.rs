//! The commands, one a file.

pub(crate) mod app;
pub(crate) mod backup;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod dead_letter;
pub(crate) mod decrypt;
pub(crate) mod doctor;
pub(crate) mod encrypt;
pub(crate) mod event;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod lookup;
pub(crate) mod man;
pub(crate) mod publish;
pub(crate) mod queue;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod store;
pub(crate) mod subscribe;
pub(crate) mod top;

use tokio::io::AsyncReadExt;

use crate::exit::Problem;

/// What a command returns: any error, for the last line on standard error.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// All of standard input, as text.
pub(crate) async fn read_stdin(what: &str) -> Result<String, Problem> {
    let mut text = String::new();
    let read = tokio::io::stdin().read_to_string(&mut text).await;
    read.map(|_| text).map_err(|cause| Problem::usage(format!("cannot read {what} from standard input: {cause}")))
}
