//! The files for service managers and containers.

use std::path::Path;
use std::process::Command;

use crate::process::{ensync, run};

fn packaging(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_example_passes_its_check() {
    let (code, printed, said) = run(&mut ensync(&["config", "check", &packaging("ensync.toml")]));
    assert_eq!((code, said.as_str()), (0, ""), "{printed}");
    assert!(printed.ends_with("no problems, 0 warnings\n"), "{printed}");
}

#[test]
fn systemd_takes_the_unit() {
    let unit = std::fs::read_to_string(packaging("ensync.service")).unwrap();
    assert!(unit.contains("Type=notify") && unit.contains("RestartPreventExitStatus=2"));
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: there is no systemd-analyze here");
        return;
    }
    // It also looks whether the program is there.
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ensync.service");
    let (installed, ours) = ("/usr/local/bin/ensync", env!("CARGO_BIN_EXE_ensync"));
    std::fs::write(&path, unit.replace(installed, ours)).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("ensync.service:"), "{said}");
    // One that is wrong is told from one that is right.
    std::fs::write(&path, unit.replace("Type=notify", "Type=notlfy").replace(installed, ours)).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("notlfy"));
}

#[test]
fn the_service_manager_is_told() {
    use std::os::unix::net::UnixDatagram;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let engine = crate::process::Engine::start_with(place.path(), &["--dev"], &variables);
    let next = || {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert!(next().contains("READY=1"));
    engine.signal("TERM");
    assert!(next().contains("STOPPING=1"));
    assert!(engine.ended().0.success());
}
