//! Groups whose members are processes that end and hang while requests run.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::program::signal;
use crate::harness::{Client, Program, free_address, until};

const PATH: &str = "/v1/chat/completions";

/// A `simulate` process.
pub struct Simulator(pub Child);

impl Simulator {
    /// Starts it, and waits until it listens.
    pub fn start(program: &Program, address: SocketAddr) -> Self {
        Self::start_with(program, address, &[])
    }

    /// Starts it with these arguments.
    fn start_with(program: &Program, address: SocketAddr, arguments: &[&str]) -> Self {
        let address = address.to_string();
        let arguments = [&["simulate", "--workers", "1", "--listen", &*address], arguments].concat();
        let mut command = program.command(&arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        lines.next().expect("it says where it listens").unwrap();
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self(child)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program whose group `chat` has simulators at these addresses in one tier.
pub fn program(addresses: &[SocketAddr], retry: &str) -> Program {
    let program = Program::unconfigured();
    let upstream = |(number, address): (usize, &SocketAddr)| {
        format!(
            "[upstreams.m{number}]\nprovider = \"other\"\nurl = \"http://{address}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n"
        )
    };
    let upstreams: String = addresses.iter().enumerate().map(upstream).collect();
    let members: Vec<_> = (0..addresses.len()).map(|number| format!("\"m{number}\"")).collect();
    program.configure(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"\"\n[log]\nformat = \"json\"\n\
         level = \"info,streamgauge::access=off\"\n[ledger]\npath = \"usage.db\"\n{upstreams}\
         [groups.chat]\ntiers = [[{}]]\n[groups.chat.retry]\n{retry}\n[[routes]]\nupstream = \"chat\"\n",
        members.join(", ")
    ));
    program
}

/// Sends this many requests from several clients at once. Returns the number of failures.
fn load(address: SocketAddr, requests: usize, served: &AtomicUsize) -> Vec<String> {
    const CLIENTS: usize = 8;
    let client = |_| {
        let mut client = Client::connect(address);
        let mut failures = Vec::new();
        for number in 0..requests / CLIENTS {
            let stream = number % 2 == 0;
            let body = format!(
                "{{\"model\":\"sim:events=3,delay=5ms\",\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\"content\":\"{number}\"}}]}}"
            );
            let response = client.post(PATH, &body).response();
            if response.status() != 200 {
                failures.push(response.text().to_owned());
            }
            served.fetch_add(1, Ordering::Relaxed);
        }
        failures
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// The group and the attempts of a record.
type Kept = (Option<String>, Option<Value>);

/// The records in the ledger.
fn records(program: &Program) -> (u64, Vec<Kept>) {
    let connection = rusqlite::Connection::open(program.path("usage.db")).unwrap();
    let mut statement = connection.prepare("SELECT \"group\", attempts FROM usage_records").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?))).unwrap();
    let rows: Vec<_> = rows
        .map(Result::unwrap)
        .map(|(group, attempts)| (group, attempts.map(|text| serde_json::from_str(&text).unwrap())))
        .collect();
    (rows.len() as u64, rows)
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn members_that_are_killed_and_restarted_fail_no_request() {
    const REQUESTS: usize = 1_000;
    let addresses = [free_address(), free_address()];
    let program = program(
        &addresses,
        "on = [\"retryable\", \"doubtful\"]\nbudget = 10\n[groups.chat.breaker]\nfailures = 0\nsuccess_rate = 0",
    );
    let mut members = addresses.map(|address| Some(Simulator::start(&program, address)));
    let serving = program.serve();
    let served = AtomicUsize::new(0);
    let failures = thread::scope(|scope| {
        let load = scope.spawn(|| load(serving.address, REQUESTS, &served));
        let reach = |count: usize| {
            until(Duration::from_secs(60), "progress", || {
                (served.load(Ordering::Relaxed) >= count).then_some(())
            });
        };
        reach(200);
        members[0] = None;
        reach(500);
        members[0] = Some(Simulator::start(&program, addresses[0]));
        reach(700);
        members[1] = None;
        load.join().unwrap()
    });
    assert_eq!(failures, [""; 0]);
    serving.signal("-TERM");
    serving.end();
    let (count, rows) = records(&program);
    assert_eq!(count, REQUESTS as u64);
    assert!(rows.iter().all(|(group, _)| group.as_deref() == Some("chat")));
    let several: Vec<_> = rows.iter().filter_map(|(_, attempts)| attempts.as_ref()).collect();
    assert!(!several.is_empty(), "some requests needed another member");
    for attempts in several {
        let attempts = attempts.as_array().unwrap();
        let [first, last] = &attempts[..] else { panic!("{attempts:?}") };
        assert!(first["error"].is_string() && first["upstream"] != last["upstream"], "{attempts:?}");
        assert_eq!(last["status"], 200, "{attempts:?}");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn member_that_hangs_fails_no_request() {
    const REQUESTS: usize = 400;
    let addresses = [free_address(), free_address()];
    let program =
        program(&addresses, "on = [\"retryable\", \"first_byte\"]\nfirst_byte = \"300ms\"\nbudget = 10");
    let members = addresses.map(|address| Simulator::start(&program, address));
    let serving = program.serve();
    let served = AtomicUsize::new(0);
    let failures = thread::scope(|scope| {
        let load = scope.spawn(|| load(serving.address, REQUESTS, &served));
        until(Duration::from_secs(60), "progress", || (served.load(Ordering::Relaxed) >= 100).then_some(()));
        signal(&members[0].0, "-STOP");
        load.join().unwrap()
    });
    signal(&members[0].0, "-CONT");
    assert_eq!(failures, [""; 0]);
    serving.signal("-TERM");
    serving.end();
    assert_eq!(records(&program).0, REQUESTS as u64);
}

#[test]
fn stored_state_is_found_between_processes() {
    let addresses = [free_address(), free_address()];
    let program = program(&addresses, "");
    let accounts = ["one", "two"];
    let simulator =
        |(address, name): (SocketAddr, &str)| Simulator::start_with(&program, address, &["--account", name]);
    let members: Vec<_> = addresses.into_iter().zip(accounts).map(simulator).collect();
    let serving = program.serve();
    let ask = |body: &str| {
        let response = Client::connect(serving.address).post("/v1/responses", body).response();
        assert_eq!(response.status(), 200, "{}", response.text());
        let id = serde_json::from_slice::<Value>(response.body()).unwrap()["id"].as_str().unwrap().to_owned();
        (id, response.header("x-streamgauge-upstream").unwrap().to_owned())
    };
    for conversation in 0..8 {
        let prompt = format!("\"model\":\"m\",\"prompt_cache_key\":\"{conversation}\",\"input\":\"Go.\"");
        let (mut id, member) = ask(&format!("{{{prompt}}}"));
        for turn in 0..4 {
            // Another key would choose another member.
            let next = ask(&format!(
                "{{\"model\":\"m\",\"prompt_cache_key\":\"{turn}\",\"input\":\"On.\",\"previous_response_id\":\"{id}\"}}"
            ));
            assert_eq!(next.1, member);
            id = next.0;
        }
    }
    drop(members);
    serving.signal("-TERM");
    serving.end();
}
