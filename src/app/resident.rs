//! The resident memory beyond what the parts of the budget count: memory that was given back and
//! that the allocator keeps, and parts that take more than their estimates.
//!
//! The allocator reuses such memory for requests that are as large as the earlier ones, but hardly
//! for others. So it counts too: many small requests, and then some with large bodies, would
//! otherwise take the budget twice.

use std::fs;
use std::io;
use std::time::Duration;

use crate::llm::estimate;
use crate::support::Latch;
use crate::support::memory::{Memory, MemoryPart};
use crate::support::threads::{Thread, Threads, fault};

/// The interval of the measurements.
const INTERVAL: Duration = Duration::from_millis(200);

/// The same while half of the budget or more is used.
const SHORT_INTERVAL: Duration = Duration::from_millis(20);

/// The part counts one part in this many of the limit at most, so that memory that the allocator
/// keeps for ever does not refuse requests for ever.
const MOST: usize = 2;

/// The running thread. Dropping this ends it.
pub(super) struct ResidentWatch {
    end: Latch,
    _thread: Thread,
}

impl ResidentWatch {
    /// Measures from now on, as long as the system tells the resident memory. `None`: there is no
    /// limit.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub(super) fn spawn(memory: &Memory, threads: &Threads) -> io::Result<Option<Self>> {
        let (Some(limit), Some(own)) = (memory.limit(), anonymous()) else { return Ok(None) };
        let (memory, end) = (memory.clone(), Latch::default());
        let ended = end.clone();
        let thread = threads.spawn("memory", move || {
            let interval = |used| if used >= limit / 2 { SHORT_INTERVAL } else { INTERVAL };
            while !ended.wait(interval(memory.used())) {
                fault::strike("memory");
                let own = own + estimate::tables_bytes();
                let counted = memory.used().saturating_sub(memory.of(MemoryPart::Uncounted));
                let found = anonymous().map_or(0, |resident| beyond(resident, own, counted));
                memory.set(MemoryPart::Uncounted, memory.at_most(found, MOST));
            }
            Ok(())
        })?;
        Ok(Some(Self { end, _thread: thread }))
    }
}

impl Drop for ResidentWatch {
    fn drop(&mut self) {
        self.end.open();
    }
}

/// The bytes of `resident` that are neither the process's own nor counted.
fn beyond(resident: usize, own: usize, counted: usize) -> usize {
    resident.saturating_sub(own).saturating_sub(counted)
}

/// The resident memory of this process that is no part of a file, in bytes.
fn anonymous() -> Option<usize> {
    anonymous_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Reads the form of proc_pid_status(5).
fn anonymous_in(status: &str) -> Option<usize> {
    let value = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: usize = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const LIMIT: usize = 64 << 20;

    #[test]
    fn status_tells_the_memory_that_is_no_file() {
        let status = "Name:\tx\nVmRSS:\t   20904 kB\nRssAnon:\t    2788 kB\nRssFile:\t   18116 kB\n";
        assert_eq!(anonymous_in(status), Some(2788 << 10));
        assert_eq!(anonymous_in("VmRSS:\t20904 kB\n"), None);
        assert!(anonymous().unwrap() > 100 << 10);
    }

    #[test]
    fn own_and_counted_memory_are_not_beyond() {
        assert_eq!(beyond(100, 30, 50), 20);
        assert_eq!(beyond(100, 30, 80), 0, "estimates are larger than what they stand for");
        assert_eq!(beyond(20, 30, 0), 0);
    }

    #[test]
    fn memory_without_a_part_counts_up_to_half_of_the_limit() {
        let memory = Memory::new(Some(LIMIT));
        let threads = Threads::default();
        let watch = ResidentWatch::spawn(&memory, &threads).unwrap();
        let used = || memory.of(MemoryPart::Uncounted);
        let wait_for = |expected: &dyn Fn(usize) -> bool| {
            let start = Instant::now();
            while !expected(used()) {
                assert!(start.elapsed() < Duration::from_secs(20), "{}", used());
                thread::sleep(Duration::from_millis(5));
            }
        };
        let some = black_box(vec![1_u8; LIMIT / 4]);
        wait_for(&|bytes| bytes >= LIMIT / 4);
        let more = black_box(vec![1_u8; LIMIT]);
        wait_for(&|bytes| bytes == LIMIT / 2);
        drop((some, more, watch));
        assert!(ResidentWatch::spawn(&Memory::default(), &threads).unwrap().is_none());
    }
}
