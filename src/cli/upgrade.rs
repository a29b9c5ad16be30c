//! Starts the new version of the program in place of this one (`SIGUSR2`).

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio, id};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::control::Control;
use crate::app::{Channel, GO, PassedSockets, READY, SERVING, TAKES_OVER};

/// The time in which the new process must have opened everything.
const START: Duration = Duration::from_secs(30);

/// The time in which the new process must accept connections after that.
const BEGIN: Duration = Duration::from_secs(10);

/// The time in which a process that is stopped during its start must end.
const STOP: Duration = Duration::from_secs(5);

/// Variables of this process that would mislead the new one.
const OWN_VARIABLES: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

/// The command of this process. The file at that path may have been replaced since the start.
#[derive(Clone, Debug)]
pub(super) struct Program {
    program: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// The program and the arguments with which this process was started. The name is looked up in
    /// `PATH` again, unless it has a slash.
    pub(super) fn of_this_process() -> Self {
        let mut words = env::args_os();
        let name = words.next().filter(|name| !name.is_empty());
        let program = name.or_else(|| env::current_exe().ok().map(OsString::from)).unwrap_or_default();
        Self { program, arguments: words.collect() }
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

/// The reason for which an upgrade cannot begin here. `None` if it can.
pub(super) fn refusal() -> Option<&'static str> {
    // A container ends with its first process.
    (id() == 1).then_some("the first process of a container cannot be replaced: replace the container")
}

/// Runs an upgrade to its end: until the new process serves and ends, or until it has failed. The
/// new process inherits stdout, stderr and the environment.
pub(super) fn run(program: &Program, sockets: &OwnSockets, control: &Control) {
    let begun = Instant::now();
    let mut child = match start(program, sockets) {
        Ok((child, channel)) => {
            let mut child = Successor { child, channel };
            match hand_over(&mut child, control) {
                Ok(()) => {
                    tracing::info!(process = child.child.id(), took = ?begun.elapsed(), "replaced by the new process");
                    drop(child.channel);
                    child.child
                }
                Err(reason) => {
                    let status = child.end();
                    control.upgrade_failed();
                    tracing::error!(
                        process = child.child.id(),
                        status,
                        "the upgrade has failed, and this process goes on: {reason}"
                    );
                    return;
                }
            }
        }
        Err(error) => {
            control.upgrade_failed();
            let program = program.program.to_string_lossy();
            tracing::error!(
                "the upgrade has failed, and this process goes on: {program} cannot be started: {error}"
            );
            return;
        }
    };
    // Otherwise an end of the new process would leave an entry in the table of processes.
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
    let Successor { child, channel } = successor;
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
}

impl Successor {
    /// Ends the process, and returns its exit status for the log.
    fn end(&mut self) -> String {
        if let Ok(Some(status)) = self.child.try_wait() {
            return shown(status);
        }
        // A process without requests that does not end in order hangs.
        stop(self.child.id());
        let until = Instant::now() + STOP;
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
