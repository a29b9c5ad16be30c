//! Metrics of the process, with the names that all of Prometheus' clients use
//! (prometheus.io/docs/instrumenting/writing_clientlibs, "Standard and runtime collectors").

use std::fmt;
use std::fs;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::time::{ClockId, clock_gettime};

/// Read on request, from `/proc`. Values that the system does not provide are left out.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    /// Seconds since 1970.
    started: f64,
}

impl ProcessMetrics {
    /// The metrics of a process that starts now.
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: since.as_secs_f64() }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
        let help = "CPU time that the process has used, in user space and in the kernel";
        let kind = cpu.metric_type();
        cpu.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), kind)?)?;
        let started = ConstGauge::new(self.started);
        let help = "When the process started, since 1970";
        let kind = started.metric_type();
        started.encode(encoder.encode_descriptor(
            "process_start_time",
            help,
            Some(&Unit::Seconds),
            kind,
        )?)?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (name, help, unit, value) in [
            ("process_resident_memory", "Resident memory", Some(Unit::Bytes), bytes(&status, "VmRSS:")),
            ("process_virtual_memory", "Address space", Some(Unit::Bytes), bytes(&status, "VmSize:")),
            ("process_threads", "Threads", None, number(&status, "Threads:")),
            ("process_open_fds", "Open file descriptors", None, open_files()),
            ("process_max_fds", "The limit on open file descriptors", None, limit()),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                let kind = gauge.metric_type();
                gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), kind)?)?;
            }
        }
        Ok(())
    }
}

/// The number in a line of `/proc/self/status`.
fn number(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn bytes(status: &str, name: &str) -> Option<i64> {
    number(status, name)?.checked_mul(1024)
}

fn open_files() -> Option<i64> {
    // Without the descriptor that lists them.
    i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?.checked_sub(1)
}

fn limit() -> Option<i64> {
    let (soft, _) = rlimit::getrlimit(rlimit::Resource::NOFILE).ok()?;
    Some(i64::try_from(soft).unwrap_or(i64::MAX))
}
