//! The queue of a group, with the real program and real simulators.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Client, PATIENCE, Program, free_address, until};

const PATH: &str = "/v1/chat/completions";

/// A `simulate` process.
struct Simulator {
    process: Child,
    address: SocketAddr,
}

impl Simulator {
    /// Starts it, and waits until it listens.
    fn start(program: &Program, address: SocketAddr) -> Self {
        let mut command = program.command(&["simulate", "--workers", "1", "--listen", &address.to_string()]);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        lines.next().expect("it says where it listens").unwrap();
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { process, address }
    }

    /// The largest number of requests that ran at the same time.
    fn most_running(&self) -> u64 {
        let mut client = Client::connect(self.address);
        client.send("GET /simulator/running HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let running: Value = serde_json::from_slice(client.response().body()).unwrap();
        running["most_running"].as_u64().unwrap()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program whose group `chat` has simulators at these addresses in one tier, and two clients.
fn program(addresses: &[SocketAddr], lines: &str) -> Program {
    let program = Program::unconfigured();
    let upstream = |(number, address): (usize, &SocketAddr)| {
        format!(
            "[upstreams.m{number}]\nprovider = \"other\"\nurl = \"http://{address}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n"
        )
    };
    let upstreams: String = addresses.iter().enumerate().map(upstream).collect();
    let members: Vec<_> = (0..addresses.len()).map(|number| format!("\"m{number}\"")).collect();
    program.configure(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"\"\n[log]\nformat = \"json\"\n\
         level = \"info,streamgauge::access=off\"\n[ledger]\npath = \"usage.db\"\n\
         [clients.large]\nkey = {{ value = \"sk-large-0123456789\" }}\n\
         [clients.small]\nkey = {{ value = \"sk-small-0123456789\" }}\n{upstreams}\
         [[routes]]\nupstream = \"chat\"\n[groups.chat]\ntiers = [[{}]]\nsticky = []\n{lines}\n",
        members.join(", ")
    ));
    program
}

/// Sends a request of a client, and returns the time that it waited. Fails if it is refused.
fn ask(connection: &mut Client, client: &str, directions: &str, is_stream: bool) -> Option<Duration> {
    let body = format!(
        "{{\"model\":\"sim:{directions}\",\"stream\":{is_stream},\"messages\":[{{\"role\":\"user\",\"content\":\"Go.\"}}]}}"
    );
    connection.send(format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-{client}-0123456789\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let response = connection.response();
    assert_eq!(response.status(), 200, "{}", response.text());
    let waited = response.header("x-streamgauge-waited-ms")?;
    Some(Duration::from_millis(waited.parse().unwrap()))
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn members_never_run_more_requests_than_they_may() {
    const CLIENTS: usize = 32;
    const REQUESTS: usize = 40;
    let addresses = [free_address(), free_address()];
    let program = program(&addresses, "concurrent = 3\nwait = \"60s\"");
    let members = addresses.map(|address| Simulator::start(&program, address));
    let serving = program.serve();
    let waited = thread::scope(|scope| {
        let client = |number: usize| {
            let address = serving.address;
            scope.spawn(move || {
                let mut connection = Client::connect(address);
                let directions = "events=4,pace=1ms,delay=1ms..20ms";
                let waits = (0..REQUESTS).map(|request| {
                    ask(&mut connection, "large", directions, (number + request).is_multiple_of(2))
                });
                waits.filter(Option::is_some).count()
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    assert_eq!(members.each_ref().map(Simulator::most_running), [3, 3]);
    serving.signal("-TERM");
    serving.end();
    let connection = rusqlite::Connection::open(program.path("usage.db")).unwrap();
    let sql = "SELECT count(*), count(time_waiting_ms), min(outcome), max(outcome) FROM usage_records";
    let row: (isize, isize, String, String) = connection
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap();
    let complete = || "complete".to_owned();
    assert_eq!(row, ((CLIENTS * REQUESTS) as isize, waited as isize, complete(), complete()));
    assert!(waited > REQUESTS, "{waited} requests waited");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn client_with_50_loops_delays_another_by_at_most_two_requests() {
    const TIME: Duration = Duration::from_millis(100);
    let address = free_address();
    let program = program(&[address], "concurrent = 1\nwait = \"60s\"");
    let member = Simulator::start(&program, address);
    let serving = program.serve();
    let is_over = AtomicBool::new(false);
    let mut waits = thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut connection = Client::connect(serving.address);
                while !is_over.load(Ordering::Relaxed) {
                    ask(&mut connection, "large", "events=1,delay=100ms", false);
                }
            });
        }
        let mut connection = Client::connect(serving.address);
        let mut waits = Vec::new();
        for _ in 0..20 {
            let waited = ask(&mut connection, "small", "events=1,delay=100ms", false);
            waits.push(waited.unwrap_or_default());
        }
        is_over.store(true, Ordering::Relaxed);
        waits
    });
    waits.sort_unstable();
    assert!(waits[18] <= 2 * TIME + TIME / 2, "{waits:?}");
    assert!(waits[10] <= 2 * TIME, "{waits:?}");
    assert_eq!(member.most_running(), 1);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn restarted_member_gets_one_request_before_the_others() {
    const REQUESTS: usize = 100;
    let address = free_address();
    let breaker = "[groups.chat.breaker]\nfailures = 4\npause = [\"2s\", \"2s\"]";
    let program = program(&[address], &format!("wait = \"50s\"\n{breaker}"));
    let serving = program.serve();
    for _ in 0..4 {
        let mut connection = Client::connect(serving.address);
        connection.send(
            "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-small-0123456789\r\n\r\n",
        );
        assert_eq!(connection.response().status(), 502);
    }
    let member = Simulator::start(&program, address);
    thread::scope(|scope| {
        for _ in 0..REQUESTS {
            let address = serving.address;
            scope.spawn(move || ask(&mut Client::connect(address), "large", "events=1,delay=1s", false));
        }
        until(PATIENCE, "the trial", || (member.most_running() == 1).then_some(()));
        let trial = Instant::now();
        until(PATIENCE, "the others", || (member.most_running() > 1).then_some(()));
        assert!(trial.elapsed() > Duration::from_millis(700), "{:?}", trial.elapsed());
    });
}
