//! Messages to the supervisor that started this process (sd_notify(3)).

use std::env;
use std::fmt;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The longest time for a message. A supervisor that reads nothing must not delay a stop.
const PATIENCE: Duration = Duration::from_secs(1);

/// The supervisor's socket, if it has one. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Supervisor(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    socket: UnixDatagram,
    is_silent: AtomicBool,
}

impl Supervisor {
    /// The supervisor in the environment (`NOTIFY_SOCKET`). One that cannot be reached is logged,
    /// and gets no messages.
    pub fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let name = name.to_string_lossy();
        Self::connect(&name).unwrap_or_else(|error| {
            tracing::warn!(%error, "NOTIFY_SOCKET: {name} cannot be reached: the supervisor gets no messages");
            Self::default()
        })
    }

    /// Connects to a socket: a path, or `@` and a name in the abstract namespace of Linux.
    fn connect(name: &str) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => abstract_address(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(Some(Arc::new(Inner { socket, is_silent: AtomicBool::new(false) }))))
    }

    pub fn exists(&self) -> bool {
        self.0.is_some()
    }

    /// Sends assignments such as `READY=1`, one per line, unless the supervisor has another main
    /// process now. Blocks for at most a second.
    pub fn send(&self, assignments: impl fmt::Display) {
        let Some(inner) = self.0.as_ref().filter(|inner| !inner.is_silent.load(Ordering::Relaxed)) else {
            return;
        };
        if let Err(error) = inner.socket.send(assignments.to_string().as_bytes()) {
            tracing::debug!(%error, "the supervisor does not accept a message");
        }
    }

    /// Reports the beginning of a reload.
    pub fn send_reloading(&self) {
        if self.exists() {
            let now = clock_gettime(ClockId::Monotonic);
            self.send(format_args!(
                "RELOADING=1\nMONOTONIC_USEC={}",
                now.tv_sec * 1_000_000 + now.tv_nsec / 1000
            ));
        }
    }

    /// Names the process that replaces this one, and sends nothing more.
    pub fn hand_over(&self, process: u32) {
        self.send(format_args!("MAINPID={process}\nREADY=1"));
        if let Some(inner) = &self.0 {
            inner.is_silent.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &str) -> io::Result<SocketAddr> {
    <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &str) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The interval within which the supervisor expects a sign of life of this process: `WATCHDOG_USEC`,
/// unless `WATCHDOG_PID` names another process.
pub fn watchdog_interval() -> Option<Duration> {
    let process = env::var("WATCHDOG_PID").unwrap_or_default();
    if !process.is_empty() && process != std::process::id().to_string() {
        return None;
    }
    let interval = env::var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)?;
    (!interval.is_zero()).then_some(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn messages_arrive_until_another_process_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let supervisor = Supervisor::connect(path.to_str().unwrap()).unwrap();
        supervisor.send("READY=1");
        supervisor.send_reloading();
        supervisor.hand_over(7);
        supervisor.send("STOPPING=1");
        assert_eq!(next(&socket).as_deref(), Some("READY=1"));
        assert!(next(&socket).unwrap().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(next(&socket).as_deref(), Some("MAINPID=7\nREADY=1"));
        assert_eq!(next(&socket), None);
        assert!(!Supervisor::default().exists());
        Supervisor::default().send("READY=1");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn abstract_socket_is_reached() {
        let name = format!("streamgauge-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&abstract_address(&name).unwrap()).unwrap();
        Supervisor::connect(&format!("@{name}")).unwrap().send("READY=1");
        assert_eq!(next(&socket).as_deref(), Some("READY=1"));
    }
}
