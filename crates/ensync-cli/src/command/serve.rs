use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ensync_engine::{EventOptions, Server, ServerTls};
use ensync_sdk::core::report;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Outcome;
use crate::config::{self, Raw};
use crate::exit::{self, Exit, Problem};
use crate::foreign;
use crate::manager::{self, Told};
use crate::output::Output;
use crate::{logging, shell, signals, values};

/// What a stop may take beside waiting for clients: the last checkpoint, mostly.
const CLOSING: Duration = Duration::from_secs(20);

/// The apps that a development engine makes if it is not told.
const DEV_APPS: [&str; 2] = ["shop", "warehouse"];

/// Run an engine.
///
/// Every setting can be given in a file, as an environment variable, or as a flag; a flag goes before the environment, and that
/// before the file. The manual in the documentation of ensync-engine lists them all.
///
/// SIGTERM or Ctrl-C stops it in order: a second one at once. SIGHUP has it read its TLS files again. It exits with 0 after an
/// orderly stop, 3 if not everybody had finished in time (nothing that was accepted is lost), 2 if it was told something wrong,
/// and 1 if it failed.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ensync serve --dev\n  ensync serve --data /var/lib/ensync --config /etc/ensync/ensync.toml\n  ensync serve --listen 0.0.0.0:50051 --tls-cert chain.pem --tls-key key.pem"
)]
pub(crate) struct Serve {
    /// For development: event names are registered on first use, the apps "shop" and "warehouse" are made if no --app says
    /// otherwise, and without a data directory everything is in memory, settled events included, until it ends. If the port for
    /// administration is taken, and nobody chose it, another one is.
    #[arg(long)]
    dev: bool,
    /// A configuration file.
    #[arg(long, value_name = "FILE", env = "ENSYNC_CONFIG")]
    config: Option<PathBuf>,
    /// Keep everything in this directory, which is made if it is not there: what was accepted outlives a crash. [./ensync-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where to listen; each address serves gRPC and WebSocket. Repeat it for several. [127.0.0.1:50051 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Where to listen without TLS, whatever else is set. Repeat it for several.
    #[arg(long, value_name = "ADDRESS")]
    listen_plaintext: Vec<String>,
    /// Allow plaintext on addresses that other machines can reach.
    #[arg(long)]
    insecure: bool,
    /// A PEM file with the certificate chain to show; turns TLS on.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// A PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// A PEM file of CAs: clients must show a certificate that one of them issued.
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<String>,
    /// Where to serve administration, the console, metrics and health; "off" for nowhere. [127.0.0.1:50052]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// How a line of the log looks: text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// What is logged: error, warn, info, debug, or the like per module.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any other setting. Repeat it for several.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// An app to make, unless there is one of that name. Its keys are printed when it is made, and never again. Repeat it for
    /// several.
    #[arg(long, value_name = "NAME", value_parser = values::app_name)]
    app: Vec<String>,
    /// An event name to register, unless it is registered. Repeat it for several.
    #[arg(long, value_name = "NAME", value_parser = values::event_name)]
    event: Vec<String>,
}

impl Serve {
    pub(crate) async fn run(self, verbose: u8, out: Output) -> Outcome {
        let mut loaded = config::load(self.dev, self.config.as_deref(), config::variables(), self.flags()?);
        loaded.check_builder(self.dev);
        super::config::refuse(&loaded)?;
        let config = &loaded.config;
        let _log = logging::start(config.log_format, logging::Filter::Engine(&config.log_level.0, verbose));
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let data = config.data_dir(self.dev).map(|path| path.display().to_string());
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            data = data.as_deref().unwrap_or("in memory"),
            dev = self.dev,
            "starting"
        );
        raise_descriptors();
        let mut signals = signals::Signals::listen()?;
        let (builder, mut tls) = config.builder(self.dev).map_err(|error| Problem::usage(report(&error)))?;
        let begun = Instant::now();
        let server = match manager::starting(builder.progress(), builder.start(), manager::tell).await {
            // Whoever develops may have an engine already: the console is somewhere else then, and says where.
            Err(error) if self.dev && loaded.admin_is_anywhere() && is_taken(&error, config.admin_listen.0) => {
                let (builder, again) = config.builder(self.dev).map_err(|error| Problem::usage(report(&error)))?;
                let builder = match again.as_ref().filter(|_| config.admin_tls) {
                    Some(tls) => builder.admin_tls(config::ANY_PORT, tls.clone()),
                    None => builder.admin(config::ANY_PORT),
                };
                tls = again;
                manager::starting(builder.progress(), builder.start(), manager::tell).await?
            }
            started => started?,
        };
        let say = Say(out);
        self.announce(&server, config.data_dir(self.dev).as_deref(), say);
        let result = self.serve(&server, tls, &mut signals, (begun, config.shutdown_timeout), say).await;
        // One that was stopped has had its time.
        if result.as_ref().is_err_and(|error| exit::told(&**error).0 != Exit::Unfinished) {
            tokio::select! {
                _ = server.shutdown() => {}
                name = signals.stop() => tracing::warn!(signal = name, "stopped at once"),
            }
        }
        result
    }

    async fn serve(
        &self,
        server: &Server,
        tls: Option<ServerTls>,
        signals: &mut signals::Signals,
        (begun, stop_within): (Instant, Duration),
        say: Say,
    ) -> Outcome {
        self.register(server).await?;
        self.make_apps(server, say).await?;
        // Whoever wanted the keys may have closed the pipe by now, which is no reason to stop.
        say.both(|| json!({"ready": true}), || "# ready".to_owned());
        tracing::info!(took_ms = begun.elapsed().as_millis() as u64, "ready");
        manager::tell(&[Told::Ready, Told::Status("ready".to_owned())]);
        let mut watchdog = std::pin::pin!(manager::watchdog(server.broker().clone()));
        let why = loop {
            tokio::select! {
                () = &mut watchdog => {}
                signal = signals.next() => match signal {
                    signals::Signal::Stop(name) => break name,
                    signals::Signal::Reload => {
                        manager::tell(&[Told::Reloading]);
                        reload(tls.as_ref());
                        manager::tell(&[Told::Ready]);
                    }
                },
                // Whoever supervises this starts it again, which tells what of the last commands was stored.
                error = server.failed() => return Err(error.into()),
                () = server.stopped() => return Err("the engine stopped by itself; its log says why".into()),
            }
        };
        tracing::info!(signal = why, "stopping; once more stops at once");
        manager::tell(&[Told::Stopping, Told::Longer(stop_within.saturating_add(CLOSING))]);
        let unfinished = tokio::select! {
            stopped = server.shutdown() => (!stopped.in_order()).then(|| {
                let saved = if stopped.saved { "" } else { ", and its state is not saved: the next start takes longer" };
                format!("at the deadline, {} connections were cut off{saved}", stopped.cut_off)
            }),
            name = signals.stop() => Some(format!("stopped at once by a second signal, {name}")),
        };
        match unfinished {
            None => {
                tracing::info!("stopped");
                Ok(())
            }
            Some(why) => Err(Problem::new(Exit::Unfinished, why).into()),
        }
    }

    /// What the flags say, as settings.
    fn flags(&self) -> Result<config::Flags, Problem> {
        let words = |text: &String| Raw::Words(text.clone());
        let list = |items: &[String]| {
            (!items.is_empty()).then(|| Raw::List(items.iter().map(|item| Raw::Text(item.clone())).collect()))
        };
        let single = [
            ("--data", "data", &self.data),
            ("--tls-cert", "tls.certificate", &self.tls_cert),
            ("--tls-key", "tls.key", &self.tls_key),
            ("--tls-client-ca", "tls.client_ca", &self.tls_client_ca),
            ("--admin-listen", "admin.listen", &self.admin_listen),
            ("--log-format", "log.format", &self.log_format),
            ("--log-level", "log.level", &self.log_level),
        ];
        let single = single.into_iter().filter_map(|(flag, name, value)| Some((flag, name, words(value.as_ref()?))));
        let more = [
            list(&self.listen).map(|value| ("--listen", "listen", value)),
            list(&self.listen_plaintext).map(|value| ("--listen-plaintext", "listen_plaintext", value)),
            self.insecure.then_some(("--insecure", "insecure", Raw::Boolean(true))),
        ];
        let flags = single.chain(more.into_iter().flatten());
        let mut flags: config::Flags = flags.map(|(flag, name, value)| (flag, name.to_owned(), value)).collect();
        for setting in &self.set {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| Problem::usage("--set: write it as NAME=VALUE, such as limits.max_sessions=1000"))?;
            flags.push(("--set", name.to_owned(), Raw::Words(value.to_owned())));
        }
        Ok(flags)
    }

    fn announce(&self, server: &Server, data: Option<&std::path::Path>, say: Say) {
        let token = |data: Option<&std::path::Path>| data.map(|path| path.join("admin.token").display().to_string());
        let value = || {
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "dev": self.dev,
                "data": data.map(|path| path.display().to_string()),
                "grpc": server.grpc_urls(),
                "ws": server.ws_urls(),
                "admin": server.admin_url(),
                "console": server.console_url(),
                "config_manager": server.config_manager_url(),
                "token_file": token(data),
                "token": server.admin_token().filter(|_| data.is_none()).map(|token| token.expose().to_owned()),
                "read_token": server.admin_read_token().filter(|_| data.is_none()).map(|token| token.expose().to_owned()),
            })
        };
        let text = || {
            let mode = if self.dev { "development mode: " } else { "" };
            let mut lines = vec![match data {
                None => format!("# EnSync engine, {mode}in memory, gone when it stops."),
                Some(path) => format!("# EnSync engine, {mode}data in {}.", path.display()),
            }];
            lines.extend(server.grpc_urls().iter().zip(server.ws_urls()).map(|(grpc, ws)| format!("# {grpc}  {ws}")));
            let secret = |name: &str| match (token(data), server.admin_token()) {
                (Some(file), _) => Some(format!("{name} in {file}")),
                (None, Some(token)) => Some(format!("{name} {}", token.expose())),
                (None, None) => None,
            };
            for (what, url, name) in [
                ("console", server.console_url(), "token"),
                ("administration", server.admin_url(), "token"),
                ("Config Manager API", server.config_manager_url(), "access key"),
            ] {
                let Some((url, secret)) = url.zip(secret(name)) else { continue };
                if name == "access key" {
                    lines.push("# for the makers' command line:".to_owned());
                }
                lines.push(format!("# {what} at {url}, {secret}"));
            }
            if let Some(reader) = server.admin_read_token().filter(|_| data.is_none()) {
                lines.push(format!("# for looking only, token {}", reader.expose()));
            }
            lines.join("\n")
        };
        say.both(value, text);
    }

    async fn register(&self, server: &Server) -> Outcome {
        let known = server.broker().events().await?;
        for name in &self.event {
            if !known.iter().any(|(known, _)| known.as_str() == name) {
                server.register_event(name.as_str(), EventOptions::default()).await?;
            }
        }
        Ok(())
    }

    async fn make_apps(&self, server: &Server, say: Say) -> Outcome {
        let known = server.broker().apps().await?;
        let mut names: Vec<&str> = self.app.iter().map(String::as_str).collect();
        if names.is_empty() && self.dev {
            names.extend(DEV_APPS);
        }
        let mut made = BTreeSet::new();
        for name in names.into_iter().filter(|name| made.insert(*name)) {
            if let Some(app) = known.iter().find(|app| app.name == name) {
                let id = app.id.to_string();
                say.both(|| json!({"app": name, "app_id": id}), || format!("# app {name:?} is there already: {id}"));
                continue;
            }
            let app = server.create_app(name).await?;
            let secret = app.secret_key.to_base64().ok_or("the new key has no public half; please report this")?;
            let (id, key) = (app.app_id.to_string(), app.app_key.expose());
            let mut lines = Zeroizing::new(String::with_capacity((4 << 10) + 6 * name.len()));
            lines.push('\n');
            shell::name_app(&mut lines, name);
            let keys = [("ENSYNC_APP_ID", id.as_str()), ("ENSYNC_APP_KEY", key), ("ENSYNC_SECRET_KEY", &secret)];
            keys.into_iter().try_for_each(|(variable, value)| shell::assign(&mut lines, variable, value))?;
            let shown = say.both(
                || json!({"app": name, "app_id": id, "app_key": key, "secret_key": &*secret}),
                || lines.trim_end().to_owned(),
            );
            if !shown {
                // They exist, and nobody has them.
                server.broker().delete_app(app.app_id).await?;
                let text = format!(
                    "standard output cannot be written, so the keys of app {name:?} could not be shown; it was not made"
                );
                return Err(Problem::new(Exit::Output, text).into());
            }
        }
        Ok(())
    }
}

/// Whether an engine did not start because another program listens at an address.
fn is_taken(error: &ensync_sdk::Error, address: Option<SocketAddr>) -> bool {
    address
        .is_some_and(|address| error.to_string().starts_with(&format!("cannot listen on {address}: another program")))
}

/// What an engine tells while it runs.
#[derive(Clone, Copy)]
struct Say(Output);

impl Say {
    /// Prints it for programs or for people; whether that was possible. Keys are in it, so nothing is left out.
    fn both(self, value: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> bool {
        let line = if self.0.json { foreign::json(&value().to_string()) } else { text() };
        self.0.line(line).is_ok()
    }
}

/// Lets the process have as many files and sockets open as it may: shells and service managers give fewer at first.
#[cfg(unix)]
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(cause) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%cause, "cannot raise the number of files and sockets that may be open");
    }
}

#[cfg(not(unix))]
fn raise_descriptors() {}

/// Reads the TLS files again. If they are of no use the certificate stays what it was.
fn reload(tls: Option<&ServerTls>) {
    match tls.map(ServerTls::reload) {
        None => tracing::info!("SIGHUP: there is nothing to read again, for there is no TLS"),
        Some(Ok(true)) => tracing::info!("SIGHUP: the TLS files were read again"),
        Some(Ok(false)) => tracing::info!("SIGHUP: the TLS files are what they were"),
        Some(Err(error)) => {
            tracing::error!(error = %report(&error), "SIGHUP: the TLS files are unusable; the old certificate stays")
        }
    }
}
