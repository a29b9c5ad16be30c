//! The real program under a supervisor: sockets that it opened, messages that it gets, and the time
//! between its signal and the drain.

use std::cell::RefCell;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, PATIENCE, Program, Serving, free_address};

const NO_LEDGER: &str = "path = \"\"";

/// The socket of a supervisor, and the messages that came before those that were waited for.
struct Notified(UnixDatagram, RefCell<Vec<String>>);

impl Notified {
    fn bind(program: &Program) -> Self {
        let socket = UnixDatagram::bind(program.path("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket, RefCell::default())
    }

    fn command(&self, program: &Program) -> Command {
        let mut command = program.command(&["serve"]);
        command.env("NOTIFY_SOCKET", program.path("notify"));
        command
    }

    /// Waits for a message that begins so. The status has its own thread, so that its messages may
    /// come before others.
    fn wait_for(&self, beginning: &str) -> String {
        let mut seen = self.1.borrow_mut();
        if let Some(at) = seen.iter().position(|text| text.starts_with(beginning)) {
            return seen.remove(at);
        }
        loop {
            let mut bytes = [0; 512];
            let length = self.0.recv(&mut bytes).unwrap_or_else(|_| panic!("no {beginning}: {seen:?}"));
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.starts_with(beginning) {
                return text;
            }
            seen.push(text);
        }
    }
}

/// Begins a stream of three seconds.
fn begin_stream(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    let body = "{\"model\":\"sim:events=150,pace=20ms\",\"messages\":[],\"stream\":true}";
    client.post("/v1/chat/completions", body).head();
    client
}

fn is_served(address: SocketAddr) -> bool {
    let Some(mut client) = Client::try_connect(address) else { return false };
    client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
    client.next_response().is_some_and(|response| response.status() == 200)
}

/// Waits for a condition without an event.
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn readiness(admin: SocketAddr) -> (u16, String) {
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    let response = Client::connect(admin).send(request).response();
    (response.status(), response.text().to_owned())
}

#[test]
fn supervisor_gets_readiness_status_reloads_and_the_stop() {
    let program = Program::new(NO_LEDGER);
    let notified = Notified::bind(&program);
    let serving = program.serve_as(notified.command(&program));
    notified.wait_for("READY=1");
    notified.wait_for("STATUS=0 requests running, configuration 1");
    serving.signal("-HUP");
    let reloading = notified.wait_for("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    notified.wait_for("READY=1");
    let mut client = begin_stream(serving.address);
    notified.wait_for("STATUS=1 requests running");
    serving.signal("-TERM");
    notified.wait_for("STOPPING=1");
    notified.wait_for("STATUS=finishing 1 requests");
    assert!(client.rest().ends_with(b"\r\n0\r\n\r\n"));
    assert_eq!(serving.end_with_status().0, Some(0));
}

#[test]
fn watchdog_gets_signs_of_life_also_while_requests_finish() {
    let program = Program::new(NO_LEDGER);
    let notified = Notified::bind(&program);
    let mut command = notified.command(&program);
    command.env("WATCHDOG_USEC", "200000");
    let serving = program.serve_as(command);
    for _ in 0..5 {
        notified.wait_for("WATCHDOG=1");
    }
    let mut client = begin_stream(serving.address);
    serving.signal("-TERM");
    notified.wait_for("STOPPING=1");
    for _ in 0..5 {
        notified.wait_for("WATCHDOG=1");
    }
    assert!(client.rest().ends_with(b"\r\n0\r\n\r\n"));
}

#[test]
fn stop_delay_serves_new_connections_and_is_not_ready() {
    let admin = free_address();
    let program = Program::with_admin(&format!("listen = \"{admin}\""), NO_LEDGER);
    let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    program.configure(&text.replace("[server]\n", "[server]\nstop_delay = \"1500ms\"\n"));
    let serving = program.serve();
    assert_eq!(readiness(admin).0, 200);
    let asked = Instant::now();
    serving.signal("-TERM");
    wait_for("readiness to fail", || readiness(admin).0 == 503);
    assert!(readiness(admin).1.starts_with("stopping\n"), "{}", readiness(admin).1);
    let mut served = 0;
    while is_served(serving.address) {
        served += 1;
    }
    let lasted = asked.elapsed();
    assert!(lasted >= Duration::from_millis(1400) && served > 1, "{served} in {lasted:?}");
    assert_eq!(serving.end_with_status().0, Some(0));
}

/// Starts the program under `systemd-socket-activate` with these sockets. That waits for the first
/// connection, which the program then accepts.
fn activated(program: &Program, sockets: &[(&str, SocketAddr)]) -> Serving {
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    let mut wrapper = vec!["systemd-socket-activate".to_owned()];
    if names != [""] {
        wrapper.push(format!("--fdname={}", names.join(":")));
    }
    for (_, address) in sockets {
        wrapper.extend(["-l".to_owned(), address.to_string()]);
    }
    let mut command = Command::new("bash");
    // Lines of systemd-socket-activate are not JSON.
    let line = "\"$@\" 2> >(grep --line-buffered '^{' >&2)";
    let program_command = program.command_under(&wrapper, &["serve"]);
    command.args(["-c", &format!("exec {line}"), "bash"]).arg(program_command.get_program());
    command.args(program_command.get_args()).current_dir(program.path("")).stdin(Stdio::null());
    let first = sockets[0].1;
    let knock = thread::spawn(move || {
        let start = Instant::now();
        while TcpStream::connect(first).is_err() {
            assert!(start.elapsed() < PATIENCE, "systemd-socket-activate does not listen");
            thread::sleep(Duration::from_millis(5));
        }
    });
    let serving = program.serve_as(command);
    knock.join().unwrap();
    serving
}

#[test]
fn sockets_of_systemd_replace_the_configured_addresses() {
    let (proxy, admin) = (free_address(), free_address());
    let program = Program::with_admin("listen = \"127.0.0.1:1\"", NO_LEDGER);
    let serving = activated(&program, &[("proxy", proxy), ("admin", admin)]);
    assert_eq!(serving.address, proxy);
    assert!(is_served(proxy));
    assert_eq!(readiness(admin).0, 200);
    serving.signal("-HUP");
    wait_for("the reload", || serving.has_logged("the configuration has not changed"));
    assert!(!serving.has_logged("needs a restart"));
    serving.signal("-TERM");
    assert_eq!(serving.end_with_status().0, Some(0));
}

#[test]
fn more_sockets_than_workers_are_all_accepted_from() {
    let addresses = [free_address(), free_address(), free_address()];
    let program = Program::new(NO_LEDGER);
    let serving = activated(&program, &addresses.map(|address| ("proxy", address)));
    for address in addresses {
        assert!(is_served(address), "{address}");
    }
    serving.signal("-TERM");
    assert_eq!(serving.end_with_status().0, Some(0));
}

#[test]
fn one_socket_serves_all_workers() {
    let address = free_address();
    let program = Program::new(NO_LEDGER);
    let text = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    program.configure(&text.replace("workers = 1\n", "workers = 3\n"));
    let serving = activated(&program, &[("", address)]);
    let mut streams: Vec<_> = (0..9).map(|_| begin_stream(address)).collect();
    let is_busy = |worker: &str| serving.cpu_time(|name| name == worker) > Duration::from_millis(2);
    for worker in ["worker-0", "worker-1", "worker-2"] {
        wait_for("work of each worker", || is_busy(worker));
    }
    serving.signal("-TERM");
    for stream in &mut streams {
        assert!(stream.rest().ends_with(b"\r\n0\r\n\r\n"));
    }
}
