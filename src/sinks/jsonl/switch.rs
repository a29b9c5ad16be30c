//! JSON lines whose target can be replaced while they are written.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::{LineFile, Reopener};
use super::{Jsonl, LineStream};
use crate::record::{Batch, Sink, Turn, UsageRecord};

/// The destination of the lines.
pub struct LineTarget {
    sink: Box<dyn Sink>,
    /// `None`: a stream, which cannot be reopened.
    reopener: Option<Reopener>,
}

impl LineTarget {
    pub fn file(lines: Jsonl<LineFile>) -> Self {
        let reopener = Some(lines.out.reopener());
        Self { sink: Box::new(lines), reopener }
    }

    pub fn stream<W: Write + Send + 'static>(lines: Jsonl<LineStream<W>>) -> Self {
        Self { sink: Box::new(lines), reopener: None }
    }
}

/// Replaces the target, and reopens its file. Clones share the target.
#[derive(Clone, Default)]
pub struct Switch(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    reopener: Option<Reopener>,
    /// Later batches have another target: `next`, or none.
    is_replaced: bool,
    next: Option<Box<dyn Sink>>,
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Switch")
    }
}

impl Switch {
    /// The sink, which begins with this target.
    pub fn begin(&self, target: LineTarget) -> SwitchedLines {
        self.state().reopener = target.reopener;
        SwitchedLines { present: Some(target.sink), switch: self.clone() }
    }

    /// Later batches go to this target, or nowhere.
    pub fn replace(&self, target: Option<LineTarget>) {
        let mut state = self.state();
        state.is_replaced = true;
        (state.reopener, state.next) = match target {
            Some(LineTarget { sink, reopener }) => (reopener, Some(sink)),
            None => (None, None),
        };
    }

    /// Reopens the file, if there is one, now, or before the next batch if one is being written.
    pub fn reopen(&self) {
        if let Some(reopener) = self.state().reopener.clone() {
            reopener.reopen();
        }
    }

    pub fn has_file(&self) -> bool {
        self.state().reopener.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sink of a [`Switch`]. Without a target it finishes its records, and keeps none.
pub struct SwitchedLines {
    present: Option<Box<dyn Sink>>,
    switch: Switch,
}

impl SwitchedLines {
    fn present(&mut self) -> Option<&mut Box<dyn Sink>> {
        let mut state = self.switch.state();
        if std::mem::take(&mut state.is_replaced) {
            self.present = state.next.take();
        }
        self.present.as_mut()
    }
}

impl Sink for SwitchedLines {
    fn name(&self) -> String {
        self.present.as_ref().map_or_else(|| "no JSON lines".to_owned(), |sink| sink.name())
    }

    fn label(&self) -> &'static str {
        "jsonl"
    }

    fn write(&mut self, batch: &[UsageRecord]) -> io::Result<()> {
        self.present().map_or(Ok(()), |sink| sink.write(batch))
    }

    fn write_batches(&mut self, batches: &[Batch], turn: &mut Turn<'_>) {
        match self.present() {
            Some(sink) => sink.write_batches(batches, turn),
            None => batches.iter().for_each(|batch| turn.record_written(batch.len())),
        }
    }
}
