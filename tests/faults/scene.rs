//! The program under a fault, with clients on one side and a service on the other.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::causes::Cause;
use crate::harness::program::signal;
use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, CHAT_STREAM, Client, EVENTS_HEAD, LAST_CHUNK, PATIENCE, Program, Response,
    Upstream, chunk, sized, until, upstream,
};
use crate::sinks::{self, Sink};

/// The addresses that distinguish the two listeners: an unreadable log tells no port.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const ADMIN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The bytes that a held stream sends before it waits.
const FIRST_PART: usize = 100;

/// The start of the program, which a fault may change.
pub struct Launch {
    /// The program's working directory.
    pub folder: PathBuf,
    /// Lines of `[ledger]`.
    pub ledger: String,
    /// Further tables.
    pub tables: String,
    /// The service's host in its URL.
    pub host: &'static str,
    /// A command that runs the program.
    pub wrapper: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
    pub stdout: Stdio,
    pub stderr: Stdio,
    /// The place of the JSON lines, if they are not in a file.
    pub collected: Option<Arc<Mutex<Vec<u8>>>>,
}

/// The running program.
pub struct Scene {
    program: Program,
    cause: Option<Box<dyn Cause>>,
    wrapper: Vec<String>,
    environment: Vec<(&'static str, String)>,
    collected: Option<Arc<Mutex<Vec<u8>>>>,
    pub child: Child,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    /// A connection to the admin pages that is older than the fault.
    watch: Option<Client>,
    /// Two connections that are older than the fault, as are two to the service.
    clients: Vec<Client>,
    /// Each message releases the rest of a held stream.
    pub go: Sender<()>,
    /// The ids of requests that were served.
    pub served: Vec<String>,
    /// Requests that were cut before a response had their ids.
    pub cut: usize,
    /// Requests before the last restart, which the metrics do not count.
    earlier: usize,
    _service: Upstream,
}

/// Responds with [`CHAT_BODY`] or [`CHAT_STREAM`]; a request with the header `x-hold` waits in the
/// middle of its stream.
fn service() -> (Upstream, Sender<()>) {
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let service = upstream(move |connection| {
        while let Some(request) = connection.request() {
            if !request.body.windows(13).any(|part| part == b"\"stream\":true") {
                connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
                continue;
            }
            let (first, rest) = CHAT_STREAM.as_bytes().split_at(FIRST_PART);
            connection.send(EVENTS_HEAD);
            connection.send(chunk(first));
            if request.header("x-hold").is_some() && gone.lock().unwrap().recv().is_err() {
                return;
            }
            connection.send(chunk(rest));
            connection.send(LAST_CHUNK);
        }
    });
    (service, go)
}

impl Scene {
    /// Starts the program with its sinks, and waits until it is ready and has served a request on
    /// each of two connections.
    pub fn start(mut cause: Box<dyn Cause>) -> Self {
        let program = Program::unconfigured();
        let (service, go) = service();
        let mut launch = Launch {
            folder: program.path(""),
            ledger: "path = \"usage.db\"\njsonl = \"usage.jsonl\"".to_owned(),
            tables: String::new(),
            host: "127.0.0.1",
            wrapper: Vec::new(),
            environment: Vec::new(),
            stdout: Stdio::null(),
            stderr: fs::File::create(program.path("stderr")).unwrap().into(),
            collected: None,
        };
        cause.prepare(&mut launch);
        let Launch { ledger, tables, host, wrapper, environment, stdout, stderr, collected, .. } = launch;
        program.configure(&format!(
            "[server]\nlisten = \"{PROXY}:0\"\nworkers = 1\ndrain_timeout = \"10s\"\n[admin]\nlisten = \"{ADMIN}:0\"\n\
             [log]\nformat = \"json\"\n[ledger]\n{ledger}\n[upstreams.up]\nprovider = \"other\"\n\
             url = \"http://{host}:{}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n{tables}",
            service.address.port()
        ));
        let mut child = spawn(&program, &wrapper, &environment, stdout, stderr);
        let (proxy, admin) = listening(&mut child, &program);
        let mut scene = Self {
            program,
            cause: Some(cause),
            wrapper,
            environment,
            collected,
            child,
            proxy,
            admin,
            watch: None,
            clients: Vec::new(),
            go,
            served: Vec::new(),
            cut: 0,
            earlier: 0,
            _service: service,
        };
        scene.connect();
        scene
    }

    /// Opens the connections that are older than the fault.
    fn connect(&mut self) {
        self.watch = Some(Client::connect(self.admin));
        until(PATIENCE, "readiness", || (self.readiness().0 == 200).then_some(()));
        self.clients = vec![Client::connect(self.proxy), Client::connect(self.proxy)];
        // Concurrently, so that there are two connections to the service too.
        let held = self.begin_stream();
        self.request(1);
        self.end_stream(held);
        // A batch of its own: a stuck sink has it, and the next ones wait.
        until(PATIENCE, "the first records", || (sinks::counted(&self.metrics()) >= 2).then_some(()));
    }

    /// Causes the fault.
    pub fn strike(&mut self) {
        self.with_cause(|cause, scene| cause.strike(scene));
    }

    /// Adds the cause's own requests to those that were served.
    pub fn settle(&mut self) {
        self.with_cause(|cause, scene| cause.settle(scene));
    }

    /// Reads the rest of the program's output.
    pub fn finish_reading(&mut self) {
        self.cause.as_mut().expect("one at a time").finish_reading();
    }

    /// Removes the fault.
    pub fn lift(&mut self) {
        self.with_cause(|cause, scene| cause.lift(scene));
    }

    fn with_cause(&mut self, act: impl FnOnce(&mut dyn Cause, &mut Self)) {
        let mut cause = self.cause.take().expect("one at a time");
        act(&mut *cause, self);
        self.cause = Some(cause);
    }

    /// Ends the program, unless it has ended, and starts it again.
    pub fn restart(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal("-TERM");
            self.wait(PATIENCE);
        }
        let stderr = fs::File::options().append(true).create(true).open(self.program.path("stderr")).unwrap();
        self.child = spawn(&self.program, &self.wrapper, &self.environment, Stdio::null(), stderr.into());
        (self.proxy, self.admin) = listening(&mut self.child, &self.program);
        self.earlier = self.requests();
        self.connect();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.program.path(name)
    }

    /// Sends a request on the connection of this number; its response must be complete.
    pub fn request(&mut self, client: usize) {
        let response = ask(&mut self.clients[client]);
        self.served.push(whole(&response, CHAT_BODY));
    }

    /// Sends a request for a stream.
    pub fn stream(&mut self, client: usize) {
        let response = self.clients[client].post("/v1/chat/completions", CHAT_REQUEST).response();
        self.served.push(whole(&response, CHAT_STREAM));
    }

    /// Sends a request if the connection of this number is still open. Returns true if it was
    /// served.
    pub fn try_request(&mut self, client: usize) -> bool {
        let client = &mut self.clients[client];
        client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
        let response = client.next_response();
        self.served.extend(response.as_ref().map(|response| whole(response, CHAT_BODY)));
        response.is_some()
    }

    /// Sends a request on a new connection.
    pub fn request_anew(&mut self) {
        let response = ask(&mut Client::connect(self.proxy));
        self.served.push(whole(&response, CHAT_BODY));
    }

    /// Begins a stream on the first connection, the rest of which waits for [`Self::go`]. Returns
    /// its id.
    pub fn begin_stream(&mut self) -> String {
        let client = &mut self.clients[0];
        client.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nx-hold: 1\r\n\
             content-length: {}\r\n\r\n{CHAT_REQUEST}",
            self.proxy,
            CHAT_REQUEST.len()
        ));
        let response = Response { head: client.head(), body: None };
        assert_eq!(client.chunks(FIRST_PART), &CHAT_STREAM.as_bytes()[..FIRST_PART]);
        response.header("x-streamgauge-id").expect("an id").to_owned()
    }

    /// Makes the service end the stream, which must be complete.
    pub fn end_stream(&mut self, id: String) {
        self.go.send(()).unwrap();
        let client = &mut self.clients[0];
        let rest = client.chunks(CHAT_STREAM.len() - FIRST_PART);
        assert_eq!(rest, &CHAT_STREAM.as_bytes()[FIRST_PART..]);
        client.rest_of_response();
        self.served.push(id);
    }

    /// The bytes of the held stream after the program cuts it.
    pub fn rest_of_cut_stream(&mut self, id: String) -> Vec<u8> {
        self.served.push(id);
        self.clients[0].rest()
    }

    /// The number of requests so far, each of which has a record.
    pub fn requests(&self) -> usize {
        self.served.len() + self.cut
    }

    /// Requests that the metrics of the present process count.
    pub fn counted_requests(&self) -> usize {
        self.requests() - self.earlier
    }

    /// The status and the first line of `/readyz`.
    pub fn readiness(&mut self) -> (u16, String) {
        let response = self.admin("/readyz");
        (response.status(), response.text().lines().next().unwrap_or_default().to_owned())
    }

    pub fn metrics(&mut self) -> String {
        self.admin("/metrics").text().to_owned()
    }

    fn admin(&mut self, path: &str) -> Response {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.admin);
        self.watch.as_mut().expect("connected").send(request).response()
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for the end of the process. Returns its exit status.
    pub fn wait(&mut self, within: Duration) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < within, "the process runs after {within:?}; it said:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The ids that a sink has.
    pub fn ids(&self, sink: Sink) -> Vec<String> {
        if let Some(ids) = self.cause.as_ref().and_then(|cause| cause.ids(self, sink)) {
            return ids;
        }
        match (sink, &self.collected) {
            (Sink::Sqlite, _) => sinks::rows(&self.path("usage.db")),
            (Sink::Jsonl, Some(collected)) => sinks::lines(&collected.lock().unwrap()),
            (Sink::Jsonl, None) => sinks::lines_of(&self.path("usage.jsonl")),
        }
    }

    /// The program's log, as far as it can be read.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the program said:\n{}", self.log());
        }
    }
}

fn ask(client: &mut Client) -> Response {
    client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}").response()
}

/// The id of a response, which must have this body.
fn whole(response: &Response, body: &str) -> String {
    assert_eq!(response.status(), 200, "{}", response.head);
    assert_eq!(response.text(), body);
    response.header("x-streamgauge-id").expect("an id").to_owned()
}

fn spawn(
    program: &Program,
    wrapper: &[String],
    environment: &[(&'static str, String)],
    stdout: Stdio,
    stderr: Stdio,
) -> Child {
    let mut command = program.command_under(wrapper, &["serve"]);
    command.envs(environment.iter().map(|(name, value)| (name, value))).stdout(stdout).stderr(stderr);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs it"))
}

/// Waits until the process listens. Returns the addresses for clients and for operators.
fn listening(child: &mut Child, program: &Program) -> (SocketAddr, SocketAddr) {
    until(PATIENCE, "two listeners", || {
        if let Some(status) = child.try_wait().unwrap() {
            let said = fs::read_to_string(program.path("stderr")).unwrap_or_default();
            panic!("the program ended at its start, {status}: {said}");
        }
        let sockets = sockets(child.id());
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let find = |address: Ipv4Addr| table.lines().find_map(|line| listener(line, address, &sockets));
        Some((find(PROXY)?, find(ADMIN)?))
    })
}

/// The inodes of a process's sockets.
fn sockets(pid: u32) -> HashSet<String> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let targets =
        files.filter_map(|file| fs::read_link(file.path()).ok()?.into_os_string().into_string().ok());
    targets
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

/// The address in a line of `/proc/net/tcp`, if it is a listener on `address` and among these
/// sockets.
fn listener(line: &str, address: Ipv4Addr, sockets: &HashSet<String>) -> Option<SocketAddr> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_whitespace().collect();
    let (host, port) = fields.get(1)?.split_once(':')?;
    let is_its = u32::from_str_radix(host, 16).ok()? == u32::from_ne_bytes(address.octets())
        && fields[3] == LISTEN
        && sockets.contains(*fields.get(9)?);
    is_its.then_some(SocketAddr::from((address, u16::from_str_radix(port, 16).ok()?)))
}

/// Returns true if a connection is refused.
pub fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}
