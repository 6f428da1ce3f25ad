//! The log, on standard error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// The crates of this workspace. Only they are made to say more: at their finest levels others write whole frames, app keys
/// included.
const OURS: [&str; 5] = ["ensync", "ensync_client", "ensync_engine", "ensync_grpc", "ensync_ws"];

/// What is logged. `RUST_LOG` goes before either.
pub(crate) enum Filter<'a> {
    /// By an engine: the level of its configuration, and how often `-v` was given.
    Engine(&'a str, u8),
    /// By every other command.
    Command(u8),
}

impl Filter<'_> {
    fn directives(&self) -> String {
        let ours = |level: &str| {
            let levels: Vec<_> = OURS.iter().map(|name| format!("{name}={level}")).collect();
            format!("warn,{}", levels.join(","))
        };
        match self {
            Self::Command(0) => "warn".into(),
            Self::Command(1) => ours("info"),
            Self::Command(_) => ours("debug"),
            Self::Engine(_, 1..) => ours("debug"),
            Self::Engine(level @ ("info" | "debug" | "trace"), 0) => ours(level),
            Self::Engine(level, 0) => (*level).to_owned(),
        }
    }
}

/// Starts to log.
pub(crate) fn start(format: LogFormat, filter: Filter<'_>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter.directives()));
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let start =
        tracing_subscriber::registry().with(filter).with(filter_fn(|line| is_harmless(line.target(), *line.level())));
    match format {
        LogFormat::Text => start.with(log).init(),
        LogFormat::Json => start.with(log.json().flatten_event(true)).init(),
    }
}

/// Whether a line can be logged, whatever `RUST_LOG` says: those of the WebSocket library show whole frames at its finest levels,
/// app keys and client ids included.
fn is_harmless(target: &str, level: Level) -> bool {
    !(target == "tungstenite" || target.starts_with("tungstenite::")) || level <= Level::INFO
}
