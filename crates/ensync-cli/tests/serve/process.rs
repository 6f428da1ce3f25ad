//! An engine as a process, watched from outside.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// A bound against hanging.
const PATIENCE: Duration = Duration::from_secs(60);

const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

/// The command, without what this process's environment says.
pub(crate) fn ensync(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ensync"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("ENSYNC_") || key == "RUST_LOG") {
        command.env_remove(key);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Its exit code, standard output and standard error.
pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

pub(crate) struct Engine {
    child: Child,
    place: PathBuf,
    log: PathBuf,
    /// What it printed until it was ready.
    pub(crate) printed: String,
    pub(crate) keys: HashMap<String, String>,
}

impl Engine {
    /// Starts `ensync serve` in a directory, with free ports, and waits until it is ready.
    pub(crate) fn start(place: &Path, arguments: &[&str]) -> Self {
        Self::start_with(place, arguments, &[])
    }

    /// Starts the command as it is typed.
    pub(crate) fn start_as(place: &Path, arguments: &[&str]) -> Self {
        Self::launch(place, &mut ensync(arguments))
    }

    pub(crate) fn start_with(place: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::launch(place, ensync(&[]).args(SERVE).args(arguments).envs(variables.iter().copied()))
    }

    /// Starts one that a write beyond a limit on the size of files does not end, but fails.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_to_be_limited(place: &Path, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ensync")]).stdin(Stdio::null());
        Self::launch(place, shell.args(SERVE).args(arguments))
    }

    /// From now on no file of the process can be written beyond so many bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn limit_files(&self, bytes: u32) {
        let (pid, limit) = (format!("--pid={}", self.child.id()), format!("--fsize={bytes}"));
        assert!(Command::new("prlimit").args([pid, limit]).status().unwrap().success());
    }

    /// Starts one whose standard error goes elsewhere.
    pub(crate) fn start_with_stderr(place: &Path, arguments: &[&str], stderr: impl Into<Stdio>) -> Self {
        fs::write(place.join("engine.log"), "").unwrap();
        Self::launch_to(place, ensync(&[]).args(SERVE).args(arguments), stderr.into())
    }

    fn launch(place: &Path, command: &mut Command) -> Self {
        let stderr = File::options().create(true).append(true).open(place.join("engine.log")).unwrap();
        Self::launch_to(place, command, stderr.into())
    }

    fn launch_to(place: &Path, command: &mut Command, stderr: Stdio) -> Self {
        let log = place.join("engine.log");
        command.current_dir(place);
        let child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let (place, printed, keys) = (place.to_owned(), String::new(), HashMap::new());
        let mut engine = Self { child, place, log, printed, keys };
        let mut lines = BufReader::new(engine.child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let ready = lines.any(|line| {
            if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                engine.keys.insert(key.to_owned(), value.to_owned());
            }
            engine.printed.push_str(&line);
            engine.printed.push('\n');
            line == "# ready"
        });
        assert!(ready, "{}", engine.log());
        engine
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log holds a text.
    pub(crate) fn wait_for(&self, part: &str) {
        let begun = std::time::Instant::now();
        while !self.log().contains(part) {
            assert!(begun.elapsed() < PATIENCE, "{part:?} never came:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The URL of a transport: "grpc", "ws", or their forms with TLS.
    pub(crate) fn url(&self, scheme: &str) -> &str {
        let start = format!("{scheme}://");
        self.printed.split_whitespace().find(|word| word.starts_with(&start)).unwrap()
    }

    pub(crate) fn address(&self) -> &str {
        self.url("ws").strip_prefix("ws://").unwrap()
    }

    fn admin(&self) -> &str {
        let line = self.printed.lines().find_map(|line| line.strip_prefix("# administration at http://")).unwrap();
        line.split([',', ' ']).next().unwrap()
    }

    pub(crate) fn token(&self, data: &str) -> String {
        fs::read_to_string(self.place.join(data).join("admin.token")).unwrap().trim().to_owned()
    }

    /// Asks the admin listener: the status, and all that it says.
    pub(crate) fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let token = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
        Self::ask(self.admin(), &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{token}connection: close\r\n\r\n"))
    }

    /// Asks the listener of the Config Manager API.
    pub(crate) fn manage(&self, method: &str, path: &str, key: &str, body: &str) -> (u16, String) {
        let line = self.printed.lines().find_map(|line| line.strip_prefix("# Config Manager API at http://")).unwrap();
        let (address, base) = line.split(',').next().unwrap().split_once('/').unwrap();
        let head = format!("x-access-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
        let request =
            format!("{method} /{base}{path} HTTP/1.1\r\nhost: localhost\r\n{head}\r\nconnection: close\r\n\r\n{body}");
        Self::ask(address, &request)
    }

    /// All that the admin listener says to who accepts a media type.
    pub(crate) fn get_as(&self, path: &str, accept: &str) -> String {
        let head = format!("host: localhost\r\naccept: {accept}\r\nconnection: close");
        Self::ask(self.admin(), &format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n")).1
    }

    /// Asks the listener for clients.
    pub(crate) fn get_plain(&self, path: &str) -> (u16, String) {
        Self::ask(self.address(), &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    }

    /// Asks the admin listener for a change.
    pub(crate) fn call(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
        let head = format!(
            "authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}",
            body.len()
        );
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{head}\r\nconnection: close\r\n\r\n{body}");
        Self::ask(self.admin(), &request)
    }

    fn ask(address: &str, request: &str) -> (u16, String) {
        let mut tcp = TcpStream::connect(address).unwrap();
        tcp.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    /// The most memory that it has had, in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Sends it one that comes twice, as from somebody who signals a process and then its group.
    pub(crate) fn signal_twice(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id, &id]).status().unwrap().success());
    }

    /// Waits until it has ended.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.log())
    }
}

/// Also where the test fails: no engine outlives it.
impl Drop for Engine {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
