use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use ensync_engine::{BrokerOptions, DiskOptions, EventOptions, Server, ServerTls};
use ensync_sdk::core::report;

use super::Outcome;

/// The apps that a development engine makes if it is not told.
const DEV_APPS: [&str; 2] = ["shop", "warehouse"];

/// Run an engine.
#[derive(Args)]
#[command(group = ArgGroup::new("kind").args(["dev", "data"]).required(true).multiple(true))]
pub(crate) struct Serve {
    /// For development: event names are registered on first use, the apps "shop" and "warehouse" are made if no --app says
    /// otherwise, and without --data everything is in memory, settled events included, until it ends.
    #[arg(long)]
    dev: bool,
    /// Keep everything in this directory, which is made if it is not there: what was accepted outlives a crash.
    #[arg(long, value_name = "DIR", env = "ENSYNC_DATA")]
    data: Option<PathBuf>,
    /// Where to listen; each address serves gRPC and WebSocket. Repeat it for several.
    #[arg(long, value_name = "ADDRESS", default_values = ["127.0.0.1:50051", "127.0.0.1:8080"])]
    listen: Vec<SocketAddr>,
    /// An app to make, unless there is one of that name. Its keys are printed when it is made, and never again. Repeat it for
    /// several.
    #[arg(long, value_name = "NAME")]
    app: Vec<String>,
    /// An event name to register, unless it is registered. Repeat it for several.
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,
    /// A PEM file with the certificate chain to show; turns TLS on.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    log: LogOptions,
}

/// How the log in the data directory is written and kept. For tests.
#[derive(Args)]
struct LogOptions {
    #[arg(long, hide = true)]
    segment_bytes: Option<u64>,
    #[arg(long, hide = true)]
    checkpoint_bytes: Option<u64>,
    #[arg(long, hide = true)]
    retain_bytes: Option<u64>,
    #[arg(long, hide = true)]
    sweep_ms: Option<u64>,
}

impl LogOptions {
    fn disk(&self) -> DiskOptions {
        let mut options = DiskOptions::default();
        options.segment_bytes = self.segment_bytes.unwrap_or(options.segment_bytes);
        options
    }

    fn apply(&self, options: &mut BrokerOptions) {
        options.checkpoint_bytes = self.checkpoint_bytes.unwrap_or(options.checkpoint_bytes);
        let retention = &mut options.retention;
        retention.max_bytes = self.retain_bytes.unwrap_or(retention.max_bytes);
        retention.sweep_every = self.sweep_ms.map_or(retention.sweep_every, Duration::from_millis);
    }
}

impl Serve {
    pub(crate) async fn run(self) -> Outcome {
        let mut options = if self.dev { BrokerOptions::dev() } else { BrokerOptions::default() };
        self.log.apply(&mut options);
        let mut builder = Server::builder().options(options).disk_options(self.log.disk());
        if let Some(path) = &self.data {
            builder = builder.data_dir(path);
        }
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => Some(ServerTls::from_pem(&read(chain)?, &read(key)?)?),
            _ => None,
        };
        for address in &self.listen {
            builder = match &tls {
                Some(tls) => builder.listen_tls(*address, tls.clone()),
                None => builder.listen(*address),
            };
        }
        let server = builder.start().await?;
        let mode = if self.dev { "development mode: " } else { "" };
        match &self.data {
            None => println!("# EnSync engine, {mode}in memory, gone when it stops."),
            Some(path) => println!("# EnSync engine, {mode}data in {}.", path.display()),
        }
        for (grpc, ws) in server.grpc_urls().iter().zip(server.ws_urls()) {
            println!("# {grpc}  {ws}");
        }
        self.register(&server).await?;
        self.make_apps(&server).await?;
        // Whoever wanted the keys may have closed the pipe by now, which is no reason to stop.
        _ = writeln!(std::io::stdout(), "# ready");
        let failure = tokio::select! {
            stopped = stopped() => stopped.map(|()| None)?,
            // Only a start on the log again tells what is stored: whatever supervises this process does that.
            failure = server.failed() => Some(failure),
        };
        eprintln!("stopping");
        server.shutdown().await;
        failure.map_or(Ok(()), |failure| Err(report(&failure).into()))
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

    async fn make_apps(&self, server: &Server) -> Outcome {
        let known = server.broker().apps().await?;
        let mut names: Vec<&str> = self.app.iter().map(String::as_str).collect();
        if names.is_empty() && self.dev {
            names.extend(DEV_APPS);
        }
        for name in names {
            if let Some(app) = known.iter().find(|app| app.name == name) {
                println!("# app {name:?} is there already: {}", app.id);
                continue;
            }
            let app = server.create_app(name).await?;
            let secret = app.secret_key.to_base64().ok_or("the new key has no public half; please report this")?;
            println!("\n# app {name:?}");
            println!("ENSYNC_APP_ID={}", app.app_id);
            println!("ENSYNC_APP_KEY={}", app.app_key.expose());
            println!("ENSYNC_SECRET_KEY={}", &*secret);
        }
        Ok(())
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))
}

/// Returns on Ctrl-C or SIGTERM.
async fn stopped() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            done = tokio::signal::ctrl_c() => done,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
