//! The gateways: their programs, their configurations with TLS in front and the engine in clear behind, and how each is reloaded.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use crate::ca::Ca;

/// How long getting the programs may take, the first time.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Nginx,
    HaProxy,
    Envoy,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Nginx, Self::HaProxy, Self::Envoy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    /// The configuration, and where it is written.
    fn configuration(self, directory: &Path, front: SocketAddr, engine: SocketAddr) -> String {
        let directory = directory.display();
        match self {
            // Its defaults, `keepalive_requests 1000` and the read timeouts of 60 s among them.
            Self::Nginx => format!(
                "daemon off;
                 worker_processes 1;
                 pid {directory}/nginx.pid;
                 error_log {directory}/error.log;
                 events {{ }}
                 http {{
                   access_log off;
                   client_body_temp_path {directory}/body;
                   proxy_temp_path {directory}/proxy;
                   fastcgi_temp_path {directory}/fastcgi;
                   uwsgi_temp_path {directory}/uwsgi;
                   scgi_temp_path {directory}/scgi;
                   client_max_body_size 8m;
                   map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
                   server {{
                     listen {front} ssl http2;
                     ssl_certificate {directory}/cert.pem;
                     ssl_certificate_key {directory}/key.pem;
                     location /ensync. {{ grpc_pass grpc://{engine}; }}
                     location / {{
                       proxy_pass http://{engine};
                       proxy_http_version 1.1;
                       proxy_set_header Upgrade $http_upgrade;
                       proxy_set_header Connection $connection_upgrade;
                     }}
                   }}
                 }}\n"
            ),
            Self::HaProxy => format!(
                "global
                   master-worker
                   stats socket {directory}/stats.sock mode 600 level admin expose-fd listeners
                   pidfile {directory}/haproxy.pid
                 defaults
                   mode http
                   timeout connect 5s
                   timeout client 60s
                   timeout server 60s
                   timeout tunnel 1h
                 frontend front
                   bind {front} ssl crt {directory}/both.pem alpn h2,http/1.1
                   acl grpc path_beg /ensync.
                   use_backend grpc if grpc
                   default_backend ws
                 backend grpc
                   server engine {engine} proto h2
                 backend ws
                   server engine {engine}\n"
            )
            .lines()
            .map(|line| format!("{}\n", line.trim_start_matches("                 ")))
            .collect(),
            Self::Envoy => format!(
                r#"{{
  "static_resources": {{
    "listeners": [{{
      "name": "front",
      "address": {{"socket_address": {{"address": "{ip}", "port_value": {port}}}}},
      "filter_chains": [{{
        "transport_socket": {{
          "name": "envoy.transport_sockets.tls",
          "typed_config": {{
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {{
              "alpn_protocols": ["h2", "http/1.1"],
              "tls_certificates": [{{
                "certificate_chain": {{"filename": "{directory}/cert.pem"}},
                "private_key": {{"filename": "{directory}/key.pem"}}
              }}]
            }}
          }}
        }},
        "filters": [{{
          "name": "envoy.filters.network.http_connection_manager",
          "typed_config": {{
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "front",
            "upgrade_configs": [{{"upgrade_type": "websocket"}}],
            "http_filters": [{{
              "name": "envoy.filters.http.router",
              "typed_config": {{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
            }}],
            "route_config": {{"virtual_hosts": [{{
              "name": "engine", "domains": ["*"],
              "routes": [
                {{"match": {{"prefix": "/ensync."}}, "route": {{"cluster": "grpc", "timeout": "0s"}}}},
                {{"match": {{"prefix": "/"}}, "route": {{"cluster": "ws", "timeout": "0s"}}}}
              ]
            }}]}}
          }}
        }}]
      }}]
    }}],
    "clusters": [
      {{
        "name": "grpc", "type": "STATIC", "connect_timeout": "5s",
        "typed_extension_protocol_options": {{
          "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {{
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {{"http2_protocol_options": {{}}}}
          }}
        }},
        "load_assignment": {{"cluster_name": "grpc", "endpoints": [{{"lb_endpoints": [
          {{"endpoint": {{"address": {{"socket_address": {{"address": "{to_ip}", "port_value": {to_port}}}}}}}}}
        ]}}]}}
      }},
      {{
        "name": "ws", "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {{"cluster_name": "ws", "endpoints": [{{"lb_endpoints": [
          {{"endpoint": {{"address": {{"socket_address": {{"address": "{to_ip}", "port_value": {to_port}}}}}}}}}
        ]}}]}}
      }}
    ]
  }}
}}
"#,
                ip = front.ip(),
                port = front.port(),
                to_ip = engine.ip(),
                to_port = engine.port(),
            ),
        }
    }
}

/// Where the programs are. `None`, with a line to standard error, where this machine lacks one; that fails the test instead if
/// the environment variable `ENSYNC_GATEWAYS` is `required`.
pub async fn programs() -> Option<Arc<Programs>> {
    static PROGRAMS: OnceCell<Result<Arc<Programs>, String>> = OnceCell::const_new();
    match PROGRAMS.get_or_init(find).await {
        Ok(programs) => Some(programs.clone()),
        Err(reason) => {
            let required = std::env::var("ENSYNC_GATEWAYS").is_ok_and(|value| value == "required");
            assert!(!required, "the gateways are required: {reason}");
            // Not with eprintln, which the test harness would keep to itself.
            _ = std::io::stderr().write_all(format!("\nskipped, a gateway is not here: {reason}\n").as_bytes());
            None
        }
    }
}

#[derive(Debug)]
pub struct Programs {
    paths: Vec<(String, PathBuf)>,
}

impl Programs {
    fn path(&self, kind: Kind) -> &Path {
        &self.paths.iter().find(|(name, _)| name == kind.name()).unwrap().1
    }
}

async fn find() -> Result<Arc<Programs>, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateways/setup");
    let mut command = Command::new(&script);
    command.env("CARGO_TARGET_DIR", target).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_| "finding them took too long".to_owned())?;
    let output = output.map_err(|cause| format!("the script does not run here: {cause}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        Some(3) => return Err(said.lines().last().unwrap_or_default().to_owned()),
        _ => panic!("{} failed:\n{said}", script.display()),
    }
    let lines = String::from_utf8(output.stdout).unwrap();
    let paths =
        lines.lines().filter_map(|line| line.split_once('=')).map(|(name, path)| (name.to_owned(), path.into()));
    Ok(Arc::new(Programs { paths: paths.collect() }))
}

/// A gateway that runs. It and its files go with this.
pub struct Gateway {
    kind: Kind,
    programs: Arc<Programs>,
    directory: tempfile::TempDir,
    pub address: SocketAddr,
    /// The first process; for Envoy, which replaces itself at a reload, all of them.
    processes: Vec<Child>,
}

impl Gateway {
    pub async fn start(kind: Kind, programs: Arc<Programs>, ca: &Ca, engine: SocketAddr) -> Self {
        let (directory, address) = (tempfile::tempdir().unwrap(), free_address());
        let (certificate, key) = ca.issue(&["localhost", "127.0.0.1"]);
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("cert.pem", &certificate);
        write("key.pem", &key);
        write("both.pem", &format!("{certificate}{key}"));
        write("configuration.json", &kind.configuration(directory.path(), address, engine));
        let mut gateway = Self { kind, programs, directory, address, processes: Vec::new() };
        gateway.spawn();
        gateway.wait_until_it_listens().await;
        gateway
    }

    fn spawn(&mut self) {
        let configuration = self.directory.path().join("configuration.json");
        let mut command = Command::new(self.programs.path(self.kind));
        match self.kind {
            Kind::Nginx => command.arg("-c").arg(configuration).arg("-p").arg(self.directory.path()),
            Kind::HaProxy => command.arg("-W").arg("-db").arg("-f").arg(configuration),
            Kind::Envoy => command
                .arg("-c")
                .arg(configuration)
                .args(["--concurrency", "1", "--log-level", "error"])
                .args(["--drain-time-s", "3", "--parent-shutdown-time-s", "5"])
                // Its processes find each other by this number, one for each port.
                .args(["--base-id", &self.address.port().to_string()])
                .args(["--restart-epoch", &self.processes.len().to_string()]),
        };
        let log = std::fs::File::options().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        self.processes.push(command.spawn().unwrap());
    }

    async fn wait_until_it_listens(&mut self) {
        for _ in 0..400 {
            if TcpStream::connect(self.address).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} does not listen: {}", self.kind.name(), self.log());
    }

    /// Reads its configuration again, as an operator would have it do.
    pub async fn reload(&mut self) {
        match self.kind {
            Kind::Nginx => self.signal("HUP").await,
            Kind::HaProxy => self.signal("USR2").await,
            Kind::Envoy => self.spawn(),
        }
    }

    async fn signal(&self, signal: &str) {
        let process = self.processes[0].id().expect("the gateway's process ended").to_string();
        let status = Command::new("kill").args(["-s", signal, &process]).status().await.unwrap();
        assert!(status.success());
    }

    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        read("log") + &read("error.log")
    }

    /// Stops it, and what it started.
    pub async fn stop(mut self) {
        for process in &mut self.processes {
            // A master ends its workers when it is asked to end, not when it is killed.
            if let Some(id) = process.id() {
                let _ = Command::new("kill").args(["-s", "TERM", &id.to_string()]).status().await;
            }
            if tokio::time::timeout(Duration::from_secs(10), process.wait()).await.is_err() {
                let _ = process.kill().await;
            }
        }
    }
}

/// An address of this machine that nobody listens at.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
