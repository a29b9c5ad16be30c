//! The real program with a real simulator behind it.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::mem;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use streamgauge::simulator::{self, SimulatorSettings};

use super::{Client, PATIENCE};

/// The program with a configuration of its own in a directory of its own.
pub struct Program {
    folder: tempfile::TempDir,
    _simulator: Option<simulator::RunningSimulator>,
}

impl Program {
    /// `ledger` is the text of `[ledger]`, which tables may follow.
    pub fn new(ledger: &str) -> Self {
        Self::with_admin("listen = \"\"", ledger)
    }

    /// A program with these keys of `[admin]`.
    pub fn with_admin(admin: &str, ledger: &str) -> Self {
        let settings = SimulatorSettings { listen: ([127, 0, 0, 1], 0).into(), workers: 1, api_key: None };
        let simulator = simulator::bind(&settings).unwrap();
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\n{admin}\n[log]\nformat = \"json\"\n\
             level = \"info,streamgauge::access=off\"\n[ledger]\n{ledger}\n[upstreams.up]\nprovider = \"other\"\n\
             url = \"http://{}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n",
            simulator.address()
        );
        let program = Self { _simulator: Some(simulator.spawn()), ..Self::unconfigured() };
        program.configure(&text);
        program
    }

    /// A directory without a configuration and a simulator.
    pub fn unconfigured() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), _simulator: None }
    }

    /// Writes the whole configuration.
    pub fn configure(&self, text: &str) {
        fs::write(self.path("streamgauge.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_under(&[], arguments)
    }

    /// The program's command as the last arguments of another command.
    pub fn command_under(&self, wrapper: &[String], arguments: &[&str]) -> Command {
        let mut words = wrapper.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_streamgauge")]);
        let mut command = Command::new(words.next().expect("the program itself at least"));
        command.args(words);
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// A shell command in whose text `"$0"` is the program, such as `ulimit -n 16; exec "$0"
    /// serve`.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_streamgauge")]).current_dir(self.folder.path());
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it listens.
    pub fn serve(&self) -> Serving {
        self.serve_as(self.command(&["serve"]))
    }

    /// Starts the program with another command.
    pub fn serve_as(&self, mut command: Command) -> Serving {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {seen:#?}")).unwrap();
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            seen.push(line);
            if value["message"] == "listening" {
                break value["address"].as_str().unwrap().parse().unwrap();
            }
        };
        // A pipe without a reader would stop it.
        let log = Arc::new(Mutex::new(seen));
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            move || lines.map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line))
        });
        Serving { child, address, served: AtomicUsize::new(0), log, reader: Some(reader) }
    }

    /// Ends all processes that run in its folder, such as the successor of an upgrade.
    pub fn end_successors(&self) {
        let folder = self.path("").canonicalize().unwrap();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let id = process.file_name();
            let runs_here = fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == folder);
            if !runs_here || id.to_string_lossy().parse::<u32>().is_err() {
                continue;
            }
            assert!(Command::new("kill").arg("-TERM").arg(&id).status().unwrap().success());
            let start = Instant::now();
            while fs::exists(process.path().join("exe")).unwrap_or(false) {
                assert!(start.elapsed() < PATIENCE, "a successor does not end");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    pub fn usage(&self, arguments: &[&str]) -> Output {
        self.command(&[&["usage"], arguments].concat()).output().unwrap()
    }
}

pub struct Serving {
    child: Child,
    pub address: SocketAddr,
    /// Requests of [`Self::load`] that were served.
    pub served: AtomicUsize,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Serving {
    /// Sends requests one after the other until told to stop or until the proxy has ended. Returns
    /// each response's id, and the time of its end.
    pub fn load(&self, clients: usize, until: impl FnOnce()) -> Vec<(String, Instant)> {
        let stop = AtomicBool::new(false);
        let address = self.address;
        thread::scope(|scope| {
            let client = || {
                scope.spawn(|| {
                    let mut ids = Vec::new();
                    let mut client = Client::connect(address);
                    while !stop.load(Ordering::Relaxed) {
                        client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}");
                        let Some(response) = client.next_response() else { break };
                        ids.push((response.header("x-streamgauge-id").unwrap().to_owned(), Instant::now()));
                        self.served.fetch_add(1, Ordering::Relaxed);
                    }
                    ids
                })
            };
            let clients: Vec<_> = (0..clients).map(|_| client()).collect();
            until();
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        })
    }

    /// The number of its threads now.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// The CPU time so far of its threads with such a name.
    pub fn cpu_time(&self, is_counted: impl Fn(&str) -> bool) -> Duration {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap() {
            let read = |name: &str| fs::read_to_string(task.as_ref().unwrap().path().join(name));
            // A thread can end in between.
            let (Ok(thread), Ok(times)) = (read("comm"), read("schedstat")) else { continue };
            if is_counted(thread.trim_end()) {
                nanos += times.split(' ').next().unwrap().parse::<u64>().unwrap();
            }
        }
        Duration::from_nanos(nanos)
    }

    /// Returns true if a line so far has this text.
    pub fn has_logged(&self, text: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(text))
    }

    /// The lines so far with this text.
    pub fn logged(&self, text: &str) -> Vec<String> {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Returns true if it has a file of this name open.
    pub fn has_open(&self, name: &str) -> bool {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.child.id())) else { return false };
        files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|path| path.ends_with(name)))
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for its end while a successor may go on with its log, and returns its exit status.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Waits for its end, and returns its log.
    pub fn end(self) -> Vec<String> {
        self.end_with_status().1
    }

    /// Ends the program, and returns also its exit status; `None` if a signal ended it.
    pub fn end_with_status(mut self) -> (Option<i32>, Vec<String>) {
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status.code(), mem::take(&mut self.log.lock().unwrap()))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal, named as `kill` names it.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The ids in a ledger's file.
pub fn ids(path: &Path) -> HashSet<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT id FROM usage_records").unwrap();
    let ids = statement.query_map([], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}
