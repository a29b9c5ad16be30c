//! A program that says on its standard error when it is ready.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;

/// Ended when it is dropped.
pub struct Process(Child);

impl Process {
    /// Starts it, and reads what it says until `ready` has seen what it looks for.
    pub fn start<T>(command: &mut Command, mut ready: impl FnMut(&str) -> Option<T>) -> (Self, T) {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs it"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let child = Self(child);
        let mut said = Vec::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("{command:?} ended: {said:#?}")).unwrap();
            if let Some(found) = ready(&line) {
                // A pipe that nobody reads would stop it.
                thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
                return (child, found);
            }
            said.push(line);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
