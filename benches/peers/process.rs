//! Processes on a core, and the system's accounts of them.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The core on which the proxy under test runs alone.
pub(crate) const PROXY_CORE: usize = 0;

/// The core of the load and the simulated service.
pub(crate) const LOAD_CORE: usize = 1;

/// The longest wait for a program to listen. LiteLLM needs ten seconds on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Set after this process is on its core.
const PINNED: &str = "STREAMGAUGE_PEERS_PINNED";

/// Starts this process again on the load's core, for good.
pub(crate) fn stay_on_core_one() {
    if std::env::var_os(PINNED).is_some() {
        return;
    }
    let mut again = Command::new("taskset");
    again.args(["-c", &LOAD_CORE.to_string()]).arg(std::env::current_exe().unwrap());
    let error = again.args(std::env::args_os().skip(1)).env(PINNED, "1").exec();
    panic!("taskset (of util-linux): {error}");
}

/// Peers drop their privileges and must still read their configuration.
pub(crate) fn open_to_others(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
}

/// A program that runs until this is dropped.
pub(crate) struct Running(Child);

impl Running {
    /// Starts the program on a core, and waits until it listens.
    ///
    /// # Errors
    /// Returns an error if it does not listen.
    pub(crate) fn start(core: usize, command: &Command, port: u16) -> Result<Self, String> {
        let mut running = Self::spawn(core, command);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
            if let Ok(Some(status)) = running.0.try_wait() {
                return Err(format!("{:?} ended with {status}", command.get_program()));
            }
            if Instant::now() > deadline {
                return Err(format!("{:?} does not listen after {PATIENCE:?}", command.get_program()));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(running)
    }

    /// Starts the program on a core.
    pub(crate) fn spawn(core: usize, command: &Command) -> Self {
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", &core.to_string()]).arg(command.get_program()).args(command.get_args());
        pinned.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        pinned.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(pinned.spawn().unwrap_or_else(|error| panic!("{pinned:?}: {error}")))
    }

    /// The process and its children.
    fn pids(&self) -> Vec<u32> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        std::iter::once(pid)
            .chain(children.split_whitespace().filter_map(|child| child.parse().ok()))
            .collect()
    }

    /// CPU time so far, user and system, all threads.
    pub(crate) fn cpu(&self) -> Duration {
        let mut nanos = 0;
        for pid in self.pids() {
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let stat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                nanos += stat.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        Duration::from_nanos(nanos)
    }

    /// Resident memory of its own, in bytes: each process has its share of shared memory.
    pub(crate) fn memory(&self) -> u64 {
        self.pids().into_iter().map(|pid| of_memory(pid, "Pss:")).sum()
    }

    /// Resident memory, shared or not, of the process alone, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        of_memory(self.0.id(), "Rss:")
    }
}

fn of_memory(pid: u32, figure: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find(|line| line.starts_with(figure)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        // Streams that never end delay a graceful stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A free port.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
