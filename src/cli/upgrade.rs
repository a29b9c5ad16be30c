//! Starts the new version of the program in place of this one (`SIGUSR2`).

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::{ExitStatusExt as _, parent_id};
use std::process::{Child, Command, ExitStatus, Stdio, id};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::control::{Control, Served};
use crate::app::{Channel, GO, PassedSockets, READY, SERVING, TAKES_OVER};

/// The time in which the new process must have opened everything.
const START: Duration = Duration::from_secs(30);

/// The time in which the new process must accept connections after that.
const BEGIN: Duration = Duration::from_secs(10);

/// The time in which a process that is stopped during its start must end.
const STOP: Duration = Duration::from_secs(5);

/// The time that a process which is stopped after its start may need beside `server.drain_timeout`.
const END: Duration = Duration::from_secs(15);

/// Variables of this process that would mislead the new one.
const OWN_VARIABLES: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

/// The command of this process. The file at that path may have been replaced since the start.
#[derive(Clone, Debug)]
pub(super) struct Program {
    program: OsString,
    arguments: Vec<OsString>,
    /// The reason for which no other process can take the place of this one.
    refusal: Option<String>,
}

impl Program {
    /// The program and the arguments with which this process was started. The name is looked up in
    /// `PATH` again, unless it has a slash. Called at the start: later the parent may have ended.
    pub(super) fn of_this_process() -> Self {
        let mut words = env::args_os();
        let name = words.next().filter(|name| !name.is_empty());
        let program = name.or_else(|| env::current_exe().ok().map(OsString::from)).unwrap_or_default();
        Self { program, arguments: words.collect(), refusal: Start::of_this_process().refusal() }
    }

    /// The reason for which an upgrade cannot begin here. `None` if it can.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env(TAKES_OVER, id().to_string());
        for name in OWN_VARIABLES {
            command.env_remove(name);
        }
        command
    }
}

/// Copies of the listening sockets of this process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnSockets(Arc<Mutex<PassedSockets>>);

impl OwnSockets {
    pub(super) fn new(sockets: PassedSockets) -> Self {
        Self(Arc::new(Mutex::new(sockets)))
    }

    /// Closes them: the kernel must not queue connections that this process does not accept.
    pub(super) fn close(&self) {
        *self.lock() = PassedSockets::default();
    }

    fn lock(&self) -> MutexGuard<'_, PassedSockets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops a process that starts, or that has begun to serve.
pub(super) fn stop(process: u32) {
    if let Some(process) = Pid::from_raw(process.cast_signed()) {
        let _ = kill_process(process, Signal::TERM);
    }
}

/// The circumstances of the start of a process that decide about an upgrade.
struct Start {
    id: u32,
    parent: u32,
    /// The name of the first process. `None`: unknown.
    init: Option<String>,
    /// systemd has started the process (`SYSTEMD_EXEC_PID`).
    by_systemd: bool,
    /// The supervisor can be told of another main process.
    has_supervisor: bool,
}

impl Start {
    fn of_this_process() -> Self {
        let init = fs::read_to_string("/proc/1/comm").ok().map(|name| name.trim().to_owned());
        Self {
            id: id(),
            parent: parent_id(),
            init,
            by_systemd: env::var("SYSTEMD_EXEC_PID").is_ok_and(|process| process == id().to_string()),
            has_supervisor: env::var_os("NOTIFY_SOCKET").is_some_and(|name| !name.is_empty()),
        }
    }

    /// The reason for which the end of this process would end the new one too.
    fn refusal(&self) -> Option<String> {
        const CONTAINER: &str = "replace the container";
        let outlives = match self.init.as_deref() {
            Some(init) => ["systemd", "init"].contains(&init),
            // A unit with `ProtectProc=` sees no other process.
            None => self.by_systemd || self.has_supervisor,
        };
        // The parent of the first process is outside, also if containers share their processes' ids.
        if self.id == 1 || self.parent == 0 {
            return Some(format!("the first process of a container cannot be replaced: {CONTAINER}"));
        }
        if self.parent == 1 && !outlives {
            let init = self.init.as_deref().unwrap_or("the first process");
            return Some(format!(
                "{init} has started this process, and a container ends with it: {CONTAINER}"
            ));
        }
        let is_unknown = self.by_systemd && !self.has_supervisor;
        is_unknown.then(|| {
            "systemd would end the new process together with this one: write Type=notify and NotifyAccess=all in the unit".to_owned()
        })
    }
}

/// Runs an upgrade until the new process serves, or until it has failed. Returns the new process if
/// it may still run. It inherits stdout, stderr and the environment.
pub(super) fn run(served: &Served, control: &Control) -> Option<Child> {
    const FAILED: &str = "the upgrade has failed, and this process goes on";
    let begun = Instant::now();
    let mut successor = match start(&served.program, &served.sockets) {
        Ok((child, channel)) => Successor { child, channel, may_serve: false },
        Err(error) => {
            control.upgrade_failed();
            let program = served.program.program.to_string_lossy();
            tracing::error!("{FAILED}: {program} cannot be started: {error}");
            return None;
        }
    };
    let process = successor.child.id();
    match hand_over(&mut successor, control) {
        Ok(()) => {
            tracing::info!(process, took = ?begun.elapsed(), "replaced by the new process");
            Some(successor.child)
        }
        Err(reason) if successor.may_serve => {
            control.upgrade_failed();
            tracing::error!(process, "{FAILED}; the new one is stopped, and finishes its requests: {reason}");
            // The end of the channel would tell the new process that it is the only one.
            let status = successor.end(*served.drain_timeout.load() + END);
            tracing::info!(process, status, "the process of the failed upgrade has ended");
            None
        }
        Err(reason) => {
            let status = successor.end(STOP);
            control.upgrade_failed();
            tracing::error!(process, status, "{FAILED}: {reason}");
            None
        }
    }
}

/// Waits for the end of the new process, which would leave an entry in the table of processes
/// otherwise.
pub(super) fn wait(mut child: Child) {
    match child.wait() {
        Ok(status) => {
            tracing::warn!(process = child.id(), status = shown(status), "the new process has ended")
        }
        Err(error) => tracing::debug!(%error, "the end of the new process is unknown"),
    }
}

fn start(program: &Program, sockets: &OwnSockets) -> io::Result<(Child, Channel)> {
    let (channel, theirs) = Channel::pair()?;
    channel.send_sockets(&sockets.lock())?;
    // The command holds the other end, and is dropped here: the new process alone has it then.
    let child = program.command().stdin(Stdio::from(theirs)).spawn()?;
    Ok((child, channel))
}

/// The steps until this process may drain.
///
/// # Errors
/// Fails with a reason for the log. This process has changed nothing then.
fn hand_over(successor: &mut Successor, control: &Control) -> Result<(), String> {
    let Successor { child, channel, may_serve } = successor;
    let process = child.id();
    if !control.upgrade_started(process) {
        return Err("this process was told to stop".to_owned());
    }
    channel.expect(READY, Some(START)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => format!("the new process was not ready within {} s", START.as_secs()),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "the new process has ended before it was ready; its messages are above".to_owned()
        }
        _ => format!("the new process was not ready: {error}"),
    })?;
    *may_serve = true;
    channel
        .send(GO)
        .and_then(|()| channel.expect(SERVING, Some(BEGIN)))
        .map_err(|error| format!("the new process was ready and did not begin: {error}"))?;
    control.upgraded(process);
    Ok(())
}

/// The new process, before it has taken over.
struct Successor {
    child: Child,
    channel: Channel,
    /// The process may have requests of clients.
    may_serve: bool,
}

impl Successor {
    /// Ends the process, and returns its exit status for the log. One that does not end in order
    /// within `patience` is killed.
    fn end(&mut self, patience: Duration) -> String {
        if let Ok(Some(status)) = self.child.try_wait() {
            return shown(status);
        }
        stop(self.child.id());
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return shown(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        self.child.wait().map_or_else(|error| error.to_string(), shown)
    }
}

fn shown(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_whose_end_ends_its_container_cannot_be_replaced() {
        let refusal = |parent, init: Option<&str>, by_systemd, has_supervisor| {
            let init = init.map(str::to_owned);
            Start { id: 7, parent, init, by_systemd, has_supervisor }.refusal().unwrap_or_default()
        };
        let first = Start { id: 1, parent: 0, init: None, by_systemd: false, has_supervisor: true };
        assert!(first.refusal().unwrap().contains("the first process of a container"));
        assert!(refusal(0, Some("pause"), false, false).contains("the first process of a container"));
        for init in ["tini", "dumb-init", "docker-init", "sh"] {
            assert!(refusal(1, Some(init), false, true).starts_with(init), "{init}");
        }
        assert!(refusal(1, None, false, false).contains("a container ends with it"));
        assert!(refusal(1, None, true, false).contains("Type=notify"));
        assert_eq!(
            (refusal(1, None, true, true), refusal(1, None, false, true)),
            (String::new(), String::new())
        );
        assert!(refusal(1, Some("systemd"), true, false).contains("Type=notify"));
        for (parent, init) in [(1, "systemd"), (1, "init"), (6, "tini"), (6, "systemd")] {
            assert_eq!(refusal(parent, Some(init), init == "systemd", true), "", "{parent} {init}");
        }
    }
}
