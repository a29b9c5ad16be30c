//! Opens the sinks in the settings, and changes them at a reload.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::advice;
use super::handover::TakeOver;
use super::ledger_use::{self, Mark};
use super::reload::Reloader;
use super::upstreams::collector;
use crate::config::{self, AccessLines, JsonlTarget as JsonlPath, Settings};
use crate::record::{Journal, Lanes, Sink};
use crate::sinks::access_log::AccessLog;
use crate::sinks::jsonl::{Jsonl, LineTarget, Switch};
use crate::sinks::ledger::{LateLedger, Ledger, LedgerError, ShippingEnd, is_of_earlier_schema};
use crate::sinks::otlp::Otlp;
use crate::sinks::prometheus::Metrics;
use crate::support::Live;

/// All receivers of usage records.
pub(super) struct Sinks {
    pub(super) all: Vec<Box<dyn Sink>>,
    /// Marks the ledger as used, for other processes.
    pub(super) ledger_mark: Option<Arc<Mark>>,
    pub(super) shipping_end: ShippingEnd,
    /// The process whose place this one takes.
    takes_over: Option<TakeOver>,
}

impl Sinks {
    pub(super) fn new(all: Vec<Box<dyn Sink>>, takes_over: Option<TakeOver>) -> Self {
        Self { all, ledger_mark: None, shipping_end: ShippingEnd::default(), takes_over }
    }

    /// Adds the metrics and the sinks in the settings, which `reloader` may change later.
    ///
    /// # Errors
    /// Fails with the file or address, and the system's error.
    pub(super) fn open(
        &mut self,
        settings: &Settings,
        metrics: &Arc<Metrics>,
        journal: &Journal,
        reloader: &mut Reloader,
    ) -> Result<(), String> {
        let Reloader { prices, services, watch, controls, .. } = reloader;
        if settings.log.access != AccessLines::Off {
            self.all.push(Box::new(AccessLog::new(Arc::clone(&controls.access), Arc::clone(prices))));
        }
        self.all.push(Box::new(Arc::clone(metrics)));
        if let Some(path) = &settings.ledger.path {
            self.open_ledger(path, &settings.ledger, journal, controls)?;
        }
        if let Some(otlp) = &settings.otlp {
            let collector = collector(otlp, watch)?;
            let otlp = Otlp::spawn(otlp, collector, services.clone(), journal);
            self.all.push(Box::new(otlp.map_err(|error| format!("otlp: {error}"))?));
        }
        if let Some(lines) = &settings.ledger.jsonl {
            let target = target(lines)?;
            self.all.push(controls.begin_jsonl(target));
        }
        Ok(())
    }

    fn open_ledger(
        &mut self,
        path: &Path,
        settings: &config::LedgerSettings,
        journal: &Journal,
        controls: &Controls,
    ) -> Result<(), String> {
        let open = {
            let (path, settings, journal) = (path.to_owned(), settings.clone(), journal.clone());
            let (retention, shipping_end) = (Arc::clone(&controls.retention), self.shipping_end.clone());
            let rollup_retention = Arc::clone(&controls.rollup_retention);
            move || -> Result<Ledger, LedgerError> {
                let age = *retention.load();
                let ledger = match settings.postgres.clone() {
                    Some(postgres) => Ledger::open_for_fleet(&path, age, postgres, &journal),
                    None => Ledger::open(&path, age, &journal),
                }?;
                let ledger = ledger.following(Arc::clone(&retention));
                Ok(ledger.keeping_sums(Arc::clone(&rollup_retention)).ended_by(&shipping_end))
            }
        };
        self.all.push(match &self.takes_over {
            Some(TakeOver { done, .. }) if is_of_earlier_schema(path) => {
                Box::new(LateLedger::new(path, done, journal, open))
            }
            _ => Box::new(open().map_err(|error| format!("ledger.path: {error}"))?),
        });
        let (mark, warning) = ledger_use::mark(path, self.takes_over.as_ref().map(|earlier| earlier.from));
        self.ledger_mark = mark.map(Arc::new);
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}

/// Opens the target of the JSON lines.
fn target(lines: &JsonlPath) -> Result<LineTarget, String> {
    match lines {
        JsonlPath::Stdout => {
            // Avoids the buffer and the lock of `io::stdout`, for which the end of the process
            // would wait.
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            let stdout = stdout.map_err(|error| format!("ledger.jsonl: stdout: {error}"))?;
            Ok(LineTarget::stream(Jsonl::new("stdout".to_owned(), File::from(stdout))))
        }
        JsonlPath::File(path) => Jsonl::open(path)
            .map(LineTarget::file)
            .map_err(|error| advice::file("ledger.jsonl", path, &error)),
    }
}

/// The parts of the sinks that a reload changes.
pub(super) struct Controls {
    access: Arc<Live<AccessLines>>,
    retention: Arc<Live<Option<Duration>>>,
    rollup_retention: Arc<Live<Option<Duration>>>,
    pub(super) jsonl: Switch,
    /// The JSON lines have a sink: since their first target.
    has_jsonl: bool,
    /// Adds a sink; `None` before the start.
    lanes: Option<Lanes>,
}

/// The target of the JSON lines after a reload.
pub(super) enum Lines {
    Same,
    /// `None`: they are not written any more.
    Other(Option<LineTarget>),
}

impl Controls {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            access: Live::new(settings.log.access),
            retention: Live::new(settings.ledger.retention),
            rollup_retention: Live::new(settings.ledger.rollup_retention),
            jsonl: Switch::default(),
            has_jsonl: false,
            lanes: None,
        }
    }

    pub(super) fn attach(&mut self, lanes: Lanes) {
        self.lanes = Some(lanes);
    }

    /// Opens the target of the JSON lines, if it changes.
    ///
    /// # Errors
    /// Fails with the file and the system's error.
    pub(super) fn prepare(new: &Settings, in_use: &Settings) -> Result<Lines, String> {
        if new.ledger.jsonl == in_use.ledger.jsonl {
            return Ok(Lines::Same);
        }
        Ok(Lines::Other(new.ledger.jsonl.as_ref().map(target).transpose()?))
    }

    /// Infallible, except that the system may provide no thread, which is logged.
    pub(super) fn apply(&mut self, settings: &Settings, lines: Lines) {
        self.access.replace(settings.log.access);
        if *self.retention.load() != settings.ledger.retention {
            self.retention.replace(settings.ledger.retention);
        }
        self.rollup_retention.replace(settings.ledger.rollup_retention);
        match lines {
            Lines::Other(target) if self.has_jsonl => self.jsonl.replace(target),
            Lines::Same | Lines::Other(None) => {}
            Lines::Other(Some(target)) => {
                let sink = self.begin_jsonl(target);
                if let Some(Err(error)) = self.lanes.as_ref().map(|lanes| lanes.add(sink)) {
                    self.has_jsonl = false;
                    tracing::error!(%error, "ledger.jsonl is not written: there is no thread for it");
                }
            }
        }
    }

    fn begin_jsonl(&mut self, target: LineTarget) -> Box<dyn Sink> {
        self.has_jsonl = true;
        Box::new(self.jsonl.begin(target))
    }
}
