//! The causes of the faults.

mod clock;
mod descriptors;
mod disk;
mod lock;
mod outputs;
mod peers;
mod resolver;
mod threads;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::matrix::Fault;
use crate::scene::{Launch, Scene};
use crate::sinks::Sink;

/// Causes a fault, and removes it.
pub trait Cause {
    /// Called before the program starts.
    fn prepare(&mut self, _launch: &mut Launch) {}

    /// Called when the program runs and has served its first requests.
    fn strike(&mut self, _scene: &mut Scene) {}

    /// Called when the fault must end.
    fn lift(&mut self, _scene: &mut Scene) {}

    /// Called when the cause's own requests must be added to those that were served.
    fn settle(&mut self, _scene: &mut Scene) {}

    /// Called after the program has written its last byte: reads the rest of its output.
    fn finish_reading(&mut self) {}

    /// The ids that a sink has, if its file is in an unusual place.
    fn ids(&self, _scene: &Scene, _sink: Sink) -> Option<Vec<String>> {
        None
    }
}

struct Nothing;

impl Cause for Nothing {}

pub fn cause(fault: Fault) -> Box<dyn Cause> {
    match fault {
        Fault::Nothing => Box::new(Nothing),
        Fault::StderrClosed => Box::new(outputs::StderrClosed::default()),
        Fault::StderrFull => Box::new(outputs::StderrFull),
        Fault::StderrUnread => Box::new(outputs::StderrUnread::default()),
        Fault::StdoutUnread => Box::new(outputs::StdoutUnread::default()),
        Fault::FifoStuck => Box::new(outputs::FifoStuck::default()),
        Fault::DiskFull => Box::new(disk::DiskFull::default()),
        Fault::SqliteLocked => Box::new(lock::SqliteLocked::default()),
        Fault::PostgresHung => Box::new(peers::PostgresHung::default()),
        Fault::CollectorHung => Box::new(peers::CollectorHung::default()),
        Fault::ResolverSilent => Box::new(resolver::ResolverSilent::default()),
        Fault::ClockAhead => Box::new(clock::Clock::ahead()),
        Fault::StartAhead => Box::new(clock::Clock::ahead_at_start()),
        Fault::ClockBack => Box::new(clock::Clock::back()),
        Fault::DescriptorsUsedUp => Box::new(descriptors::DescriptorsUsedUp),
        Fault::SinkPanicsOnce => Box::new(threads::SinkPanics::once()),
        Fault::SinkPanicsAlways => Box::new(threads::SinkPanics::always()),
    }
}

/// A command that runs the program after the script's mounts, in a mount namespace of its own. `sh`
/// gets the script.
fn in_namespace(script: &str) -> Vec<String> {
    // Without root, as the root of a user namespace.
    let options = if is_root() { "-m" } else { "-rm" };
    ["unshare", options, "--", "sh", "-c", &format!("{script} && exec \"$@\""), "sh"]
        .map(str::to_owned)
        .to_vec()
}

fn is_root() -> bool {
    // The owner of a process's own directory in /proc is its user.
    fs::metadata("/proc/self").unwrap().uid() == 0
}
