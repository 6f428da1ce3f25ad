//! `ensync`: serve an engine, make keys, publish and subscribe from a shell, encrypt and decrypt without an engine.
//!
//! One file a command, in `command/`. What a command prints for programs goes to standard output; everything else goes to
//! standard error.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

mod admin;
mod command;
mod connection;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ensync_sdk::core::report;

#[derive(Parser)]
#[command(name = "ensync", version, about = "Serve, publish and subscribe to end-to-end encrypted events")]
struct Cli {
    /// Log more: -v for what the client and the engine do, -vv for every command. RUST_LOG says it in detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(command::serve::Serve),
    App(command::app::App),
    Event(command::event::Event),
    Queue(command::queue::Queue),
    DeadLetter(command::dead_letter::DeadLetter),
    Publish(command::publish::Publish),
    Subscribe(command::subscribe::Subscribe),
    Keygen(command::keygen::Keygen),
    Encrypt(command::encrypt::Encrypt),
    Decrypt(command::decrypt::Decrypt),
    Inspect(command::inspect::Inspect),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    let done = match cli.command {
        Command::Serve(serve) => serve.run().await,
        Command::App(app) => app.run().await,
        Command::Event(event) => event.run().await,
        Command::Queue(queue) => queue.run().await,
        Command::DeadLetter(letter) => letter.run().await,
        Command::Publish(publish) => publish.run().await,
        Command::Subscribe(subscribe) => subscribe.run().await,
        Command::Keygen(keygen) => keygen.run(),
        Command::Encrypt(encrypt) => encrypt.run().await,
        Command::Decrypt(decrypt) => decrypt.run().await,
        Command::Inspect(inspect) => inspect.run().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ensync: {}", report(&*error));
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(verbose: u8) {
    // Only our own crates: at their finest levels others write whole frames, app keys included.
    let fallback = match verbose {
        0 => "warn",
        1 => "warn,ensync_client=info,ensync_engine=info,ensync_grpc=info,ensync_ws=info",
        _ => "warn,ensync_client=debug,ensync_engine=debug,ensync_grpc=debug,ensync_ws=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(fallback));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
