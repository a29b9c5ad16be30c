//! A real Redis server for tests, on loopback, with nothing on disk. It ends when it is dropped.
//!
//! The programs are Debian's `redis-server` and `redis-sentinel`, which `tests/run` installs.

#![allow(dead_code, reason = "not every test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, reason = "this is the library of several tests")]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for any machine; no test should take it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, running or stopped.
pub struct Redis {
    program: &'static str,
    folder: tempfile::TempDir,
    port: u16,
    lines: String,
    child: Option<Child>,
}

impl Redis {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server with further lines in its configuration.
    pub fn start_with(lines: &str) -> Self {
        let lines = format!("save \"\"\nappendonly no\n{lines}\n");
        Self::program("redis-server", lines)
    }

    /// Starts a sentinel that watches `primary` as `mymaster`, alone.
    pub fn sentinel(primary: &Self) -> Self {
        let lines = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 1\nsentinel down-after-milliseconds mymaster 500\n\
             sentinel failover-timeout mymaster 2000\n",
            primary.port
        );
        Self::program("redis-sentinel", lines)
    }

    /// Starts a cluster of three primaries, and waits until each of them is ready.
    pub fn cluster() -> [Self; 3] {
        let nodes = [(), (), ()].map(|()| Self::start_with("cluster-enabled yes\ncluster-node-timeout 1000"));
        let addresses = nodes.each_ref().map(|node| format!("127.0.0.1:{}", node.port));
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(addresses).args([
            "--cluster-replicas",
            "0",
            "--cluster-yes",
        ]);
        let created = create.output().unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let start = Instant::now();
        while !nodes.iter().all(|node| node.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")) {
            assert!(start.elapsed() < PATIENCE, "the cluster is not ready");
            thread::sleep(Duration::from_millis(20));
        }
        nodes
    }

    fn program(program: &'static str, lines: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { program, folder, port: free_port(), lines, child: None };
        server.resume();
        server
    }

    /// Starts it again on the same port, empty, and waits until it responds.
    pub fn resume(&mut self) {
        assert!(self.child.is_none());
        let path = self.folder.path().join("redis.conf");
        let socket = self.socket();
        let lines = format!(
            "bind 127.0.0.1\nport {}\nunixsocket {}\ndir {}\n{}",
            self.port,
            socket.display(),
            self.folder.path().display(),
            self.lines
        );
        fs::write(&path, lines).unwrap();
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let child = Command::new(self.program).arg(&path).stdin(Stdio::null()).stdout(log).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", self.program)));
        let start = Instant::now();
        while !self.ask(&["PING"]).contains("PONG") && !self.ask(&["PING"]).contains("NOAUTH") {
            assert!(start.elapsed() < PATIENCE, "the server does not start");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it with SIGSTOP: it accepts connections, and does not respond.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// The response to a command, as `redis-cli` prints it.
    pub fn ask(&self, command: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(command).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    // A cluster's node also listens 10,000 above its port.
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 55_000 {
            return port;
        }
    }
}
