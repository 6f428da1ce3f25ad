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
    // What fails there is started again whatever its exit code is.
    assert!(!unit.contains("\nExecStartPre="));
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
fn a_debian_package_is_made() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        println!("skipped: there is no dpkg-deb here");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(packaging("debian"));
    let output =
        command.arg(env!("CARGO_BIN_EXE_ensync")).env("LEVEL", "0").current_dir(place.path()).output().unwrap();
    let (name, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success() && name.starts_with("ensync_"), "{said}");
    let package = place.path().join(name.trim());
    let root = place.path().join("root");
    let unpacked = Command::new("dpkg-deb").arg("-x").args([&package, &root]).status().unwrap();
    assert!(unpacked.success());
    for file in [
        "usr/share/man/man1/ensync-app-create.1.gz",
        "usr/share/bash-completion/completions/ensync",
        "usr/share/zsh/vendor-completions/_ensync",
        "etc/ensync/ensync.toml",
        "usr/share/doc/ensync/copyright",
    ] {
        assert!(root.join(file).is_file(), "{file}");
    }
    let unit = std::fs::read_to_string(root.join("usr/lib/systemd/system/ensync.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/ensync serve") && !unit.contains("/usr/local"), "{unit}");
    let ours = Command::new(root.join("usr/bin/ensync")).arg("--version").output().unwrap();
    assert!(ours.status.success() && String::from_utf8(ours.stdout).unwrap().contains(env!("CARGO_PKG_VERSION")));
    let control = Command::new("dpkg-deb").args(["-f"]).arg(&package).args(["Depends", "Package"]).output().unwrap();
    let depends = String::from_utf8(control.stdout).unwrap();
    assert!(depends.contains("ca-certificates") && depends.contains("libc6"), "{depends}");
    // A static program needs no library, also one that is loaded anywhere in memory: `ldd` is content with that.
    let script = std::fs::read_to_string(packaging("debian")).unwrap();
    assert!(!script.contains("if ldd") && script.contains("readelf -d"));
}

#[test]
fn the_service_manager_is_told() {
    use std::os::unix::net::UnixDatagram;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let engine =
        crate::process::Engine::start_with(place.path(), &["--dev", "--set", "shutdown_timeout=7s"], &variables);
    let next = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        let said = String::from_utf8_lossy(&bytes[..length]).into_owned();
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // Until something else comes than that it is alive, and how often that came before.
    let other = || {
        let mut alive = 0;
        loop {
            match next() {
                said if said == ["WATCHDOG=1"] => alive += 1,
                said => return (alive, said),
            }
        }
    };
    let (alive, said) = other();
    assert_eq!((alive, said[0].as_str()), (0, "READY=1"), "{said:?}");
    for _ in 0..3 {
        assert_eq!(next(), ["WATCHDOG=1"], "twice as often as it has to be, or more");
    }
    let mut last = 0_u64;
    for _ in 0..2 {
        engine.signal("HUP");
        let (_, said) = other();
        assert_eq!(said[0], "RELOADING=1");
        let stamp = said[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(stamp > last);
        last = stamp;
        assert_eq!(other().1, ["READY=1"]);
    }
    engine.signal("TERM");
    assert_eq!(other().1, ["STOPPING=1", "EXTEND_TIMEOUT_USEC=27000000"]);
    assert!(engine.ended().0.success());
}

/// What the manual shows for Kubernetes is taken by the engine: every variable is a setting, and the settings go together.
#[test]
fn the_example_for_kubernetes_passes_its_check() {
    let example = std::fs::read_to_string(packaging("kubernetes.yaml")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(place.path().join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(place.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let value = |line: &str| line.split_once(':').unwrap().1.trim().trim_matches('"').to_owned();
    let lines: Vec<&str> = example.lines().map(str::trim).collect();
    let mut command = ensync(&["config", "check"]);
    let mut variables = 0;
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("- name: ENSYNC_")) {
        let value = value(pair[1]).replace("/tls/", &format!("{}/", place.path().display()));
        command.env(pair[0].trim_start_matches("- name: "), value.replace("/var/lib/ensync", "data"));
        variables += 1;
    }
    assert!(variables >= 6, "{variables}");
    let (code, printed, said) = run(command.current_dir(place.path()));
    assert_eq!(code, 0, "{said}");
    assert!(printed.contains("no problems"), "{printed}");
    // It is given more time to stop than it takes.
    let seconds = |name: &str| {
        let line = lines.iter().position(|line| !line.starts_with('#') && line.contains(name)).unwrap();
        let text = if lines[line].starts_with("- name") { value(lines[line + 1]) } else { value(lines[line]) };
        text.trim_end_matches('s').parse::<u64>().unwrap()
    };
    assert!(seconds("terminationGracePeriodSeconds") > seconds("ENSYNC_SHUTDOWN_TIMEOUT"));
}

#[test]
fn the_image_stops_in_the_time_that_docker_gives_it() {
    let image = std::fs::read_to_string(packaging("Dockerfile")).unwrap();
    let line = image.lines().find(|line| line.contains("ENSYNC_SHUTDOWN_TIMEOUT=")).unwrap();
    let seconds: u64 =
        line.split_once('=').unwrap().1.trim_end_matches([' ', '\\']).trim_end_matches('s').parse().unwrap();
    // `docker stop` kills after 10 s.
    assert!((1..10).contains(&seconds));
    let left_out = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.dockerignore")).unwrap();
    assert!(left_out.lines().any(|line| line == "target") && left_out.lines().any(|line| line == ".git"));
}
