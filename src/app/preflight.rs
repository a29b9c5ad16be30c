//! Checks that the system allows the files and threads that a start needs, before anything is bound
//! or opened.
//!
//! Runtimes and libraries report a missing file or thread in many ways, some with a panic. The errors
//! here name the limit.

use std::fs::{self, File};
use std::io;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// The open files of any command beyond those that it inherits: its configuration, a runtime, a
/// database.
pub(crate) const ANY_COMMAND: u64 = 10;

/// The time for which the system may still count a thread after its end.
const UNCOUNTED: Duration = Duration::from_millis(100);

const MORE_THREADS: &str = "raise the limit on processes and threads (ulimit -u, TasksMax= and LimitNPROC= of a systemd unit, \
                            --pids-limit of a container), or lower the number of workers";

/// Checks that this many more files can be open.
///
/// # Errors
/// Fails with the limit, and the way to raise it.
pub(crate) fn files(count: u64) -> Result<(), String> {
    let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
    let open = || {
        if count > limit {
            return Err(Errno::MFILE.into());
        }
        let file = File::open("/dev/null")?;
        (1..count).map(|_| file.try_clone()).collect::<io::Result<Vec<_>>>()
    };
    open().map(drop).map_err(|error| {
        format!(
            "open files: this command needs {count} more than are open now, and the limit is {limit} (ulimit -n): {error}; raise it \
             with `ulimit -n 1024`, LimitNOFILE= of a systemd unit, or --ulimit nofile= of a container"
        )
    })
}

/// Checks that this many more threads can run at once.
///
/// # Errors
/// Fails with the setting to change.
pub(crate) fn threads(count: usize) -> Result<(), String> {
    let before = running();
    let (release, released) = mpsc::channel::<()>();
    let released = &Mutex::new(released);
    let result = thread::scope(|scope| {
        let started = (0..count).try_for_each(|_| {
            // Each thread ends when the sender is dropped.
            let wait = move || drop(released.lock().map(|released| released.recv()));
            thread::Builder::new().spawn_scoped(scope, wait).map(drop)
        });
        drop(release);
        started
    });
    // The system counts a thread for a moment after it was joined.
    let until = Instant::now() + UNCOUNTED;
    while running() > before && Instant::now() < until {
        thread::yield_now();
    }
    result.map_err(|error| {
        format!("threads: this command needs {count} more than run now: {error}; {MORE_THREADS}")
    })
}

/// Explains why a thread was not started, and which limit to change if one is reached.
pub(crate) fn no_thread(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => format!("threads: {error}; {MORE_THREADS}"),
        _ => error.to_string(),
    }
}

/// The number of threads of this process; 0 if it is unknown.
fn running() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    threads.and_then(|threads| threads.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_this_process_are_enough_for_a_few() {
        assert_eq!((files(20), threads(8)), (Ok(()), Ok(())));
    }

    #[test]
    fn too_few_open_files_name_the_limit_and_what_raises_it() {
        let text = files(1 << 40).unwrap_err();
        assert!(text.contains("ulimit -n") && text.contains("LimitNOFILE="), "{text}");
    }
}
