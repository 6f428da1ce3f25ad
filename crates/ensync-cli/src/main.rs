//! `ensync`: serve an engine, make keys, publish and subscribe from a shell, encrypt and decrypt without an engine.
//!
//! One file a command, in `command/`. What a command prints for programs goes to standard output; everything else goes to
//! standard error: see `output`.

mod admin;
mod arguments;
mod command;
mod config;
mod connection;
mod contexts;
mod directory;
mod exit;
mod foreign;
mod hints;
mod logging;
mod manager;
mod output;
mod secrets;
mod shell;
mod signals;
mod values;
mod variables;
#[cfg(test)]
mod wiped;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{Exit, ReaderGone};
use output::{Output, note};

#[derive(Parser)]
#[command(name = "ensync", version, about = "Serve, publish and subscribe to end-to-end encrypted events")]
struct Cli {
    /// Log more: -v for what the client and the engine do, -vv for every command. RUST_LOG says it in detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print results as JSON on standard output, and an error as one JSON object on standard error.
    #[arg(long, global = true)]
    json: bool,
    /// The context to use: an engine and its keys, as `ensync context add` stores them.
    #[arg(long, global = true, value_name = "NAME", env = "ENSYNC_CONTEXT")]
    context: Option<String>,
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
    Session(command::session::Session),
    Lookup(command::lookup::Lookup),
    Info(command::info::Info),
    Top(command::top::Top),
    Publish(Box<command::publish::Publish>),
    Subscribe(Box<command::subscribe::Subscribe>),
    Replay(Box<command::replay::Replay>),
    Keygen(command::keygen::Keygen),
    Encrypt(command::encrypt::Encrypt),
    Decrypt(command::decrypt::Decrypt),
    Inspect(command::inspect::Inspect),
    Context(command::context::Context),
    Doctor(Box<command::doctor::Doctor>),
    Completions(command::completions::Completions),
    Man(command::man::Man),
}

fn main() -> ExitCode {
    let cli = match arguments::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    // Two at least: what blocks one for a moment does not keep leases and signals from being looked after.
    let workers = std::thread::available_parallelism().map_or(2, |cpus| cpus.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let code = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(cause) => {
            note(format_args!("ensync: no threads can be started: {cause}"));
            Exit::Failed as u8
        }
    };
    // Not by dropping the runtime: that waits for threads, which may wait for somebody who does not read.
    std::process::exit(code.into())
}

/// Carries a command out. What it exits with.
async fn run(cli: Cli) -> u8 {
    let serves = matches!(cli.command, Command::Serve(_));
    let filter = match cli.command {
        Command::Subscribe(_) => logging::Filter::Follower(cli.verbose),
        _ => logging::Filter::Command(cli.verbose),
    };
    let log = (!serves).then(|| logging::start(config::LogFormat::Text, filter));
    let out = Output { json: cli.json };
    let done = match cli.command {
        Command::Serve(serve) => serve.run(cli.verbose, out).await,
        Command::Config(config) => config.run(out),
        Command::Store(store) => store.run(out).await,
        Command::Backup(backup) => backup.run(out).await,
        Command::Restore(restore) => restore.run(out).await,
        Command::App(app) => app.run(out).await,
        Command::Event(event) => event.run(out).await,
        Command::Queue(queue) => queue.run(out).await,
        Command::DeadLetter(letter) => letter.run(out).await,
        Command::Session(session) => session.run(out).await,
        Command::Lookup(lookup) => lookup.run(out).await,
        Command::Info(info) => info.run(out).await,
        Command::Top(top) => top.run(out).await,
        Command::Publish(publish) => publish.run(out).await,
        Command::Subscribe(subscribe) => subscribe.run(out).await,
        Command::Replay(replay) => replay.run(out).await,
        Command::Keygen(keygen) => keygen.run(out),
        Command::Encrypt(encrypt) => encrypt.run(out).await,
        Command::Decrypt(decrypt) => decrypt.run(out).await,
        Command::Inspect(inspect) => inspect.run(out).await,
        Command::Context(context) => context.run(out),
        Command::Doctor(doctor) => doctor.run(out).await,
        Command::Completions(completions) => completions.run(out),
        Command::Man(man) => man.run(out),
    };
    drop(log);
    let Err(error) = done else { return 0 };
    if error.is::<ReaderGone>() {
        return 0;
    }
    // An engine that does not start is an engine that does not start, whatever the cause.
    let error = if serves { exit::of_an_engine(error) } else { error };
    note(exit::shown(&*error, out.json));
    exit::told(&*error).0 as u8
}
