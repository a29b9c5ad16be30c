//! A program that reports its readiness on standard error.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::PATIENCE;

/// Ended when it is dropped.
pub struct Process(Child);

impl Process {
    /// Starts it, and reads its output until `ready` finds its line.
    pub fn start<T>(command: &mut Command, ready: impl FnMut(&str) -> Option<T>) -> (Self, T) {
        Self::try_start(command, ready).unwrap_or_else(|said| panic!("{command:?} ended: {said}"))
    }

    /// Fails like [`Self::start`].
    ///
    /// # Errors
    /// Fails with its output if it has ended.
    pub fn try_start<T>(
        command: &mut Command,
        mut ready: impl FnMut(&str) -> Option<T>,
    ) -> Result<(Self, T), String> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs it"));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let child = Self(child);
        let (sender, receiver) = mpsc::channel();
        // A pipe without a reader would stop it.
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let end = Instant::now() + PATIENCE;
        let mut said = String::new();
        loop {
            match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => match ready(&line) {
                    Some(found) => return Ok((child, found)),
                    None => said = said + &line + "\n",
                },
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(said),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("{command:?} is not ready: {said}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
