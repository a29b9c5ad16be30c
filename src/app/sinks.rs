//! Opens the sinks in the settings.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use super::advice;
use super::ledger_use::{self, Mark};
use super::upstreams::collector;
use crate::config::{self, AccessLines, JsonlTarget as JsonlPath, Settings};
use crate::llm::price::Prices;
use crate::record::{Journal, Sink};
use crate::sinks::access_log::AccessLog;
use crate::sinks::jsonl::{Jsonl, Reopener};
use crate::sinks::ledger::Ledger;
use crate::sinks::otlp::{Otlp, Services};
use crate::sinks::prometheus::Metrics;
use crate::support::Live;
use crate::tls::Watch;

/// All receivers of usage records.
pub(super) struct Sinks {
    pub(super) all: Vec<Box<dyn Sink>>,
    /// Reopens the JSON-lines file.
    pub(super) reopener: Option<Reopener>,
    /// Marks the ledger as used, for other processes.
    pub(super) ledger_mark: Option<Mark>,
}

impl Sinks {
    pub(super) fn new(all: Vec<Box<dyn Sink>>) -> Self {
        Self { all, reopener: None, ledger_mark: None }
    }

    /// Adds the metrics and the sinks in the settings. `services` are the names of upstreams for
    /// the collector.
    ///
    /// # Errors
    /// Fails with the file or address, and the system's error.
    pub(super) fn open(
        &mut self,
        settings: &Settings,
        metrics: &Arc<Metrics>,
        prices: &Arc<Live<Prices>>,
        services: &Services,
        journal: &Journal,
        watch: &mut Watch,
    ) -> Result<(), String> {
        if settings.log.access != AccessLines::Off {
            self.all.push(Box::new(AccessLog::new(settings.log.access, Arc::clone(prices))));
        }
        self.all.push(Box::new(Arc::clone(metrics)));
        if let Some(path) = &settings.ledger.path {
            self.open_ledger(path, &settings.ledger, journal)?;
        }
        if let Some(otlp) = &settings.otlp {
            let collector = collector(otlp, watch)?;
            let otlp = Otlp::spawn(otlp, collector, services.clone(), journal);
            self.all.push(Box::new(otlp.map_err(|error| format!("otlp: {error}"))?));
        }
        match &settings.ledger.jsonl {
            Some(lines) => self.open_jsonl(lines),
            None => Ok(()),
        }
    }

    fn open_ledger(
        &mut self,
        path: &Path,
        settings: &config::LedgerSettings,
        journal: &Journal,
    ) -> Result<(), String> {
        let ledger = match settings.postgres.clone() {
            Some(postgres) => Ledger::open_for_fleet(path, settings.retention, postgres, journal),
            None => Ledger::open(path, settings.retention, journal),
        };
        self.all.push(Box::new(ledger.map_err(|error| format!("ledger.path: {error}"))?));
        let (mark, warning) = ledger_use::mark(path);
        self.ledger_mark = mark;
        if let Some(warning) = warning {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    fn open_jsonl(&mut self, lines: &JsonlPath) -> Result<(), String> {
        match lines {
            JsonlPath::Stdout => {
                // Avoids the buffer and the lock of `io::stdout`, for which the end of the process
                // would wait.
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let stdout = stdout.map_err(|error| format!("ledger.jsonl: stdout: {error}"))?;
                self.all.push(Box::new(Jsonl::new("stdout".to_owned(), File::from(stdout))));
            }
            JsonlPath::File(path) => {
                let jsonl = Jsonl::open(path).map_err(|error| advice::file("ledger.jsonl", path, &error))?;
                self.reopener = Some(jsonl.reopener());
                self.all.push(Box::new(jsonl));
            }
        }
        Ok(())
    }
}
