//! `ensync`: serve an engine, make keys, publish and subscribe from a shell, encrypt and decrypt without an engine.
//!
//! One file a command, in `command/`. What a command prints for programs goes to standard output; everything else goes to
//! standard error.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

mod admin;
mod command;
mod config;
mod connection;
mod failure;
mod foreign;
mod logging;
mod manager;
mod secrets;
mod signals;
mod values;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
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
    Serve(Box<command::serve::Serve>),
    Config(command::config::Config),
    Store(command::store::Store),
    Backup(command::backup::Backup),
    Restore(command::restore::Restore),
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
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let serves = matches!(cli.command, Command::Serve(_));
    let log = (!serves).then(|| logging::start(config::LogFormat::Text, logging::Filter::Command(cli.verbose)));
    let done = match cli.command {
        Command::Serve(serve) => serve.run(cli.verbose).await,
        Command::Config(config) => config.run(),
        Command::Store(store) => store.run().await,
        Command::Backup(backup) => backup.run().await,
        Command::Restore(restore) => restore.run().await,
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
            drop(log);
            // Nobody may be there to read it.
            _ = writeln!(std::io::stderr(), "ensync: {}", foreign::message(&report(&*error)));
            failure::code(&*error)
        }
    }
}

/// A command whose help shows no value of the environment: a URL may have a password, and nobody can tell.
fn without_values(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(without_values)
}

/// The command line, if it can be carried out.
fn parse() -> Result<Cli, ExitCode> {
    let mut command = without_values(Cli::command());
    let read = command.try_get_matches_from_mut(secrets::take(std::env::args_os())).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli, matches))
    });
    match read {
        Ok((cli, matches)) => secrets::check(&command, &matches).map(|()| cli).map_err(|error| {
            eprintln!("ensync: {}", foreign::message(&error.to_string()));
            failure::code(&error)
        }),
        Err(error) => {
            let plain = error.render().to_string();
            // What was typed is repeated there, and may be a secret.
            let clean = foreign::redacted_strictly(&plain);
            if clean == plain {
                _ = error.print()
            } else {
                eprint!("{clean}")
            }
            Err(u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
        }
    }
}
