//! The `records` thread, which shares each batch with the lanes of all sinks.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lane::Lane;
use super::{Journal, Sink, UsageRecord};
use crate::support::threads::{Deadline, Thread, enter_background, fault};

/// The time for the sinks to write waiting records when the writer is dropped.
const GRACE: Duration = Duration::from_secs(10);

/// The thread and the lanes. Dropping it closes the journal and waits for the sinks.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    lanes: Arc<Mutex<Vec<Lane>>>,
    thread: Thread,
    /// `end` has waited for the thread.
    is_over: bool,
}

impl Writer {
    /// Starts the threads.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn spawn(journal: &Journal, sinks: Vec<Box<dyn Sink>>) -> io::Result<Self> {
        let lanes = sinks.into_iter().map(|sink| Lane::spawn(sink, journal)).collect::<Result<_, _>>()?;
        let lanes = Arc::new(Mutex::new(lanes));
        let (from, to) = (journal.clone(), Arc::clone(&lanes));
        let thread = journal.threads().spawn("records", move || {
            enter_background();
            while let Some(batch) = from.next_batch() {
                share(&from, &to, batch);
                fault::strike("records");
            }
            Ok(())
        })?;
        Ok(Self { journal: journal.clone(), lanes, thread, is_over: false })
    }

    pub fn lanes(&self) -> Lanes {
        Lanes { journal: self.journal.clone(), lanes: Arc::clone(&self.lanes) }
    }

    /// Accepts no more records, and waits until the sinks have finished all of them, or until the
    /// deadline passes. Returns true if no record was lost at the end; lost ones are counted and
    /// logged.
    pub fn end(&mut self, deadline: &Deadline) -> bool {
        self.is_over = true;
        self.journal.close();
        self.thread.wait(deadline);
        // If the thread has failed, records remain.
        let rest = self.journal.take();
        if !rest.is_empty() {
            share(&self.journal, &self.lanes, rest);
        }
        let mut lanes = lock(&self.lanes);
        lanes.iter().for_each(|lane| lane.close(deadline));
        let lossy = lanes.iter_mut().filter_map(|lane| (!lane.end(deadline)).then_some(())).count();
        lossy == 0
    }
}

/// Adds sinks to a running writer.
#[derive(Clone, Debug)]
pub struct Lanes {
    journal: Journal,
    lanes: Arc<Mutex<Vec<Lane>>>,
}

impl Lanes {
    /// Adds a sink for later records.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn add(&self, sink: Box<dyn Sink>) -> io::Result<()> {
        let lane = Lane::spawn(sink, &self.journal)?;
        lock(&self.lanes).push(lane);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(&Deadline::after(GRACE));
        }
    }
}

fn share(journal: &Journal, lanes: &Mutex<Vec<Lane>>, batch: Vec<UsageRecord>) {
    let written = batch.len();
    let batch = Arc::new(batch);
    lock(lanes).iter_mut().for_each(|lane| lane.push(&batch));
    journal.measure();
    journal.health().written.fetch_add(written as u64, Ordering::Relaxed);
}

/// The lock of the lanes. The `records` thread holds it while it shares a batch, which waits for
/// nothing. The end holds it while it waits for the sinks, after the thread has ended or was
/// abandoned.
fn lock(lanes: &Mutex<Vec<Lane>>) -> MutexGuard<'_, Vec<Lane>> {
    lanes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::record::{CAPACITY, Entry, Outcome};

    struct Channel(mpsc::Sender<usize>);

    impl Sink for Channel {
        fn name(&self) -> String {
            "channel".to_owned()
        }
        fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
            self.0.send(batch.len()).map_err(io::Error::other)
        }
    }

    struct Full;

    impl Sink for Full {
        fn name(&self) -> String {
            "full".to_owned()
        }
        fn write(&mut self, _: &[UsageRecord]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    fn push(journal: &Journal, count: usize) {
        for _ in 0..count {
            Entry::open(journal, &"anonymous".into()).close(Outcome::Complete);
        }
    }

    #[test]
    fn every_record_is_written_before_the_writer_is_gone() {
        let journal = Journal::new(CAPACITY);
        let (sender, receiver) = mpsc::channel();
        let writer = Writer::spawn(&journal, vec![Box::new(Channel(sender))]).unwrap();
        push(&journal, 5_000);
        drop(writer);
        assert_eq!(receiver.iter().sum::<usize>(), 5_000);
        assert_eq!(journal.health().written.load(Ordering::Relaxed), 5_000);
    }

    #[test]
    fn a_sink_that_fails_is_counted_and_does_not_stop_the_others() {
        let journal = Journal::new(CAPACITY);
        let (sender, receiver) = mpsc::channel();
        let writer = Writer::spawn(&journal, vec![Box::new(Full), Box::new(Channel(sender))]).unwrap();
        push(&journal, 3);
        drop(writer);
        assert_eq!(receiver.iter().sum::<usize>(), 3);
        assert_eq!(journal.health().failed.load(Ordering::Relaxed), 3);
    }
}
