//! The workloads of the proxies.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use super::load::{self, Reading, Seen};
use super::process::{PROXY_CORE, Running, free_port};
use super::proxies::Peer;
use super::services::Services;

/// The protocol between the proxy and the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Plain,
    Tls,
    Http2,
}

/// One kind of load.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) service: Service,
    /// The unit of its cost.
    pub(crate) unit: Unit,
    load: Load,
}

/// The divisor of a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Request,
    Event,
    Megabyte,
    IdleStream,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Event => "event",
            Self::Megabyte => "MB",
            Self::IdleStream => "idle stream",
        }
    }
}

enum Load {
    /// Whole responses: the number of connections, bytes of prompt, kept connections, requests per
    /// second in all.
    Requests { connections: u32, prompt: usize, keep_alive: bool, rate: Option<u32> },
    /// Streams, and the directions of each.
    Streams { count: usize, directions: &'static str, reading: Reading },
    /// Streams that have begun and then send nothing.
    Idle { count: usize },
}

const STAMPED: Reading = Reading { stamps: true, slow: None };
const BLIND: Reading = Reading { stamps: false, slow: None };
const SLOW: Reading = Reading { stamps: false, slow: Some((16 * 1024, Duration::from_millis(10))) };

/// The characters of a short prompt.
const SHORT: usize = 20;

/// The part of a turn that is not measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// The time within which streams begin. If they began at once, their events would come in bursts
/// for as long as they last, larger ones the sooner a proxy has accepted all of them. With the
/// ramp, a proxy does not affect the service's timing.
const RAMP: Duration = Duration::from_millis(800);

/// 200 streams, an event each 10 ms.
const PACED: Load =
    Load::Streams { count: 200, directions: "events=1000000,pace=10ms,stamp=1", reading: STAMPED };
/// 32 streams of events of about 250 bytes, each a chunk, as fast as possible.
const BURST: Load = Load::Streams { count: 32, directions: "events=2000", reading: BLIND };
/// Responses of 1 KB on 32 connections, as fast as possible.
const SATURATED: Load = Load::Requests { connections: 32, prompt: SHORT, keep_alive: true, rate: None };

/// All workloads.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "requests",
        what: "1 KB responses, 32 connections, saturation",
        service: Service::Plain,
        unit: Unit::Request,
        load: SATURATED,
    },
    Workload {
        name: "requests-paced",
        what: "the same, 2,000 requests a second",
        service: Service::Plain,
        unit: Unit::Request,
        load: Load::Requests { connections: 32, prompt: SHORT, keep_alive: true, rate: Some(2000) },
    },
    Workload {
        name: "prompt-16k",
        what: "the same, 16 KB prompts",
        service: Service::Plain,
        unit: Unit::Request,
        load: Load::Requests { connections: 32, prompt: 16_000, keep_alive: true, rate: None },
    },
    Workload {
        name: "prompt-400k",
        what: "the same, 400 KB prompts",
        service: Service::Plain,
        unit: Unit::Request,
        load: Load::Requests { connections: 32, prompt: 400_000, keep_alive: true, rate: None },
    },
    Workload {
        name: "streams",
        what: "200 streams, an event each 10 ms",
        service: Service::Plain,
        unit: Unit::Event,
        load: PACED,
    },
    Workload {
        name: "burst",
        what: "32 streams, events as fast as possible",
        service: Service::Plain,
        unit: Unit::Event,
        load: BURST,
    },
    Workload {
        name: "idle",
        what: "3,000 streams idle between events",
        service: Service::Plain,
        unit: Unit::IdleStream,
        load: Load::Idle { count: 3000 },
    },
    Workload {
        name: "requests-tls",
        what: "1 KB responses, TLS to the service",
        service: Service::Tls,
        unit: Unit::Request,
        load: SATURATED,
    },
    Workload {
        name: "streams-tls",
        what: "200 streams, TLS to the service",
        service: Service::Tls,
        unit: Unit::Event,
        load: PACED,
    },
    Workload {
        name: "burst-tls",
        what: "burst, TLS to the service",
        service: Service::Tls,
        unit: Unit::Event,
        load: BURST,
    },
    Workload {
        name: "requests-h2",
        what: "1 KB responses, HTTP/2 to the service",
        service: Service::Http2,
        unit: Unit::Request,
        load: SATURATED,
    },
    Workload {
        name: "streams-h2",
        what: "200 streams, HTTP/2 to the service",
        service: Service::Http2,
        unit: Unit::Event,
        load: PACED,
    },
    Workload {
        name: "burst-h2",
        what: "burst, HTTP/2 to the service",
        service: Service::Http2,
        unit: Unit::Event,
        load: BURST,
    },
    Workload {
        name: "connections",
        what: "a new connection for each request",
        service: Service::Plain,
        unit: Unit::Request,
        load: Load::Requests { connections: 32, prompt: SHORT, keep_alive: false, rate: None },
    },
    Workload {
        name: "slow-readers",
        what: "64 streams to clients that read 1.6 MB/s",
        service: Service::Plain,
        unit: Unit::Megabyte,
        load: Load::Streams { count: 64, directions: "events=1000000", reading: SLOW },
    },
];

/// The measurements of one proxy in one round.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Microseconds of CPU per unit; bytes of memory for idle streams.
    pub(crate) cost: f64,
    /// Units per second.
    pub(crate) rate: f64,
    /// The used share of the core.
    pub(crate) busy: f64,
    /// p50, p99 and p99.9 in microseconds, if they were measured.
    pub(crate) latency: Option<[f64; 3]>,
    /// p50, p99 and p99.9 of the first bytes of streams that begin one after the other.
    pub(crate) first_byte: Option<[f64; 3]>,
    pub(crate) errors: u64,
    /// Memory of the process at the end, in bytes.
    pub(crate) memory: u64,
}

impl Measured {
    pub(crate) fn brief(&self, workload: &Workload) -> String {
        let latency = self.latency.map_or(String::new(), |[p50, p99, p999]| {
            format!(", p50 {p50:.0} p99 {p99:.0} p99.9 {p999:.0} µs")
        });
        let unit = if workload.unit == Unit::IdleStream { "bytes" } else { "µs" };
        format!(
            "{:.3} {unit}/{}, {:.0}/s, core {:.0} % busy, {:.1} MB{latency}, {} errors",
            self.cost,
            workload.unit.name(),
            self.rate,
            self.busy * 100.0,
            self.memory as f64 / 1e6,
            self.errors,
        )
    }
}

impl Workload {
    pub(crate) fn has_short_prompts(&self) -> bool {
        matches!(self.load, Load::Requests { prompt: SHORT, .. })
    }

    /// One proxy's turn: it is started, warmed up, measured, and stopped.
    ///
    /// # Errors
    /// The proxy does not start.
    pub(crate) fn measure(
        &self,
        peer: &Peer,
        services: &Services,
        folder: &Path,
        seconds: Duration,
    ) -> Result<Measured, String> {
        let (proxy, port) = peer.start(services, self.service, folder)?;
        Ok(match self.load {
            Load::Idle { count } => self.idle(&proxy, port, count),
            _ => self.run(Some(&proxy), port, seconds),
        })
    }

    /// Measures without a proxy, for the time of the path itself, if the load can send to the
    /// service.
    pub(crate) fn measure_direct(&self, services: &Services, seconds: Duration) -> Option<Measured> {
        let measured = (self.service == Service::Plain && !matches!(self.load, Load::Idle { .. }))
            .then(|| self.run(None, services.port(Service::Plain), seconds));
        measured.filter(|measured| measured.latency.is_some())
    }

    fn run(&self, proxy: Option<&Running>, port: u16, seconds: Duration) -> Measured {
        let seen = Rc::new(Seen::default());
        let cpu = || proxy.map_or(Duration::ZERO, Running::cpu);
        load::run(async {
            let clients = self.begin(port, &seen);
            sleep(WARM_UP).await;
            seen.reset();
            let (start, before) = (Instant::now(), cpu());
            sleep(seconds).await;
            let (took, used) = (start.elapsed().as_secs_f64(), (cpu() - before).as_secs_f64());
            let memory = proxy.map_or(0, Running::memory);
            let units = match self.unit {
                Unit::Request => seen.responses.get() as f64,
                Unit::Event => seen.events.get() as f64,
                Unit::Megabyte => seen.bytes.get() as f64 / 1e6,
                Unit::IdleStream => unreachable!("measured above"),
            };
            clients.iter().for_each(JoinHandle::abort);
            Measured {
                cost: used / units * 1e6,
                rate: units / took,
                busy: used / took,
                latency: percentiles(&mut seen.latencies.borrow_mut()),
                first_byte: self
                    .begins_apart()
                    .then(|| percentiles(&mut seen.first_bytes.borrow_mut()))
                    .flatten(),
                errors: seen.errors.get(),
                memory,
            }
        })
    }

    /// Memory per stream, after each has had its first event.
    fn idle(&self, proxy: &Running, port: u16, count: usize) -> Measured {
        let seen = Rc::new(Seen::default());
        load::run(async {
            let before = proxy.memory();
            let clients = self.begin(port, &seen);
            let deadline = Instant::now() + Duration::from_secs(60);
            while seen.begun.get() < count as u64 && Instant::now() < deadline {
                sleep(Duration::from_millis(20)).await;
            }
            let memory = proxy.memory();
            clients.iter().for_each(JoinHandle::abort);
            let begun = seen.begun.get();
            Measured {
                cost: memory.saturating_sub(before) as f64 / begun as f64,
                rate: 0.0,
                busy: 0.0,
                latency: None,
                first_byte: None,
                errors: seen.errors.get() + (count as u64 - begun),
                memory,
            }
        })
    }

    /// Returns true if streams begin one after another, so that each begins among the others'
    /// events only.
    fn begins_apart(&self) -> bool {
        matches!(self.load, Load::Streams { reading: Reading { stamps: true, .. }, .. })
    }

    fn begin(&self, port: u16, seen: &Rc<Seen>) -> Vec<JoinHandle<()>> {
        let streams = |count: usize, directions: &str, reading, ramp: Duration| {
            let request = Rc::new(load::request(directions, true, SHORT, true));
            // The same moments for every proxy.
            let mut random = fastrand::Rng::with_seed(1);
            let begin = |_| {
                let wait = ramp.mul_f64(random.f64());
                let stream = load::stream(port, Rc::clone(&request), reading, Rc::clone(seen));
                spawn_local(async move {
                    sleep(wait).await;
                    stream.await;
                })
            };
            (0..count).map(begin).collect()
        };
        match self.load {
            Load::Requests { connections, prompt, keep_alive, rate } => {
                let request = Rc::new(load::request("size=600,events=1", false, prompt, keep_alive));
                let pace = rate.map(|rate| Duration::from_secs(1) * connections / rate);
                let ask =
                    |_| spawn_local(load::ask(port, Rc::clone(&request), keep_alive, pace, Rc::clone(seen)));
                (0..connections).map(ask).collect()
            }
            Load::Streams { count, directions, reading } => streams(count, directions, reading, RAMP),
            Load::Idle { count } => streams(count, "events=1000000,pace=600s", BLIND, Duration::ZERO),
        }
    }
}

fn percentiles(latencies: &mut [f32]) -> Option<[f64; 3]> {
    if latencies.is_empty() {
        return None;
    }
    latencies.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| f64::from(latencies[((latencies.len() - 1) as f64 * share) as usize]);
    Some([at(0.5), at(0.99), at(0.999)])
}

/// The start of streamgauge.
pub(crate) struct Start {
    /// Milliseconds from the start to the first served request, by round.
    pub(crate) first_response: Vec<f64>,
    /// Resident bytes while idle.
    pub(crate) idle: u64,
    /// Bytes of the program.
    pub(crate) binary: u64,
}

/// Starts streamgauge several times.
pub(crate) fn start(services: &Services, folder: &Path, rounds: usize) -> Start {
    let peer = Peer::streamgauge();
    let mut first_response = Vec::new();
    let mut idle = 0;
    for round in 0..rounds.max(5) {
        let place = folder.join(format!("start-{round}"));
        fs::create_dir_all(&place).unwrap();
        let port = free_port();
        let command = peer.command(services, Service::Plain, &place, port);
        let start = Instant::now();
        let running = Running::spawn(PROXY_CORE, &command);
        let request = load::request("events=1", false, SHORT, true);
        load::run(async { while load::once(port, &request).await.is_err() {} });
        first_response.push(start.elapsed().as_secs_f64() * 1e3);
        idle = running.resident();
    }
    Start { first_response, idle, binary: fs::metadata(env!("CARGO_BIN_EXE_streamgauge")).unwrap().len() }
}
