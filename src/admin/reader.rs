//! Reads the ledger on threads of their own: few reads at once, each with a time limit, and
//! cancelled when the client leaves. The connections are read-only, so the ledger's writer never
//! waits for them. An unreachable database delays only requests for its contents.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::sinks::ledger::{Bounds, LedgerError, LedgerSource};

/// The largest number of reads at the same time. A read of a million rows keeps a CPU busy for a
/// second, or two CPUs for half of it, and the workers need them.
const AT_ONCE: usize = 2;

/// The time that a read waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// The longest time of a read, including the wait for its turn.
const MOST_TIME: Duration = Duration::from_secs(15);

/// The largest number of groups of a response: some 60 MB of JSON.
const MOST_GROUPS: usize = 100_000;

/// Reads the ledger.
#[derive(Clone, Debug)]
pub(super) struct LedgerReader {
    place: Option<LedgerSource>,
    turns: Arc<Semaphore>,
}

/// The reason for which a read has no result.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The configuration keeps no ledger.
    NoLedger,
    /// No turn was free in time.
    Busy,
    /// Unread responses leave no memory for this one.
    NoRoom,
    /// The ledger cannot be read, or not within the limits.
    Ledger(LedgerError),
    /// The thread that read panicked, or could not be started.
    Broken,
}

impl ReadError {
    /// Status, code and message of the response.
    pub(super) fn describe(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::NoLedger => (
                StatusCode::NOT_FOUND,
                "no_ledger",
                "no ledger is kept: set ledger.path in the configuration".to_owned(),
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "others are reading the ledger: try again".to_owned(),
            ),
            Self::NoRoom => (
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "other responses are still being read by their clients: try again".to_owned(),
            ),
            Self::Ledger(error) if error.is_bound() => {
                (StatusCode::UNPROCESSABLE_ENTITY, "too_much", error.reason().to_string())
            }
            Self::Ledger(error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "ledger_unreadable",
                format!("the ledger cannot be read: {}", error.reason()),
            ),
            Self::Broken => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "reading the ledger failed; the log says more".to_owned(),
            ),
        }
    }
}

impl LedgerReader {
    pub(super) fn new(place: Option<LedgerSource>) -> Self {
        Self { place, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Reads with `read`. Dropping the future cancels the read soon after.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&LedgerSource, &Bounds) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let place = self.place.clone().ok_or(ReadError::NoLedger)?;
        let deadline = Some(Instant::now() + MOST_TIME);
        let turn = timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| ReadError::Busy)?.map_err(|_| ReadError::Broken)?;
        let given_up = GivenUp::default();
        let bounds = Bounds { groups: Some(MOST_GROUPS), deadline, given_up: Arc::clone(&given_up.0) };
        let done = tokio::task::spawn_blocking(move || {
            let result = read(&place, &bounds);
            drop(turn);
            result
        });
        match done.await {
            Ok(result) => result.map_err(|error| {
                if !error.is_bound() {
                    tracing::warn!(%error, "the admin pages cannot read the ledger");
                }
                ReadError::Ledger(error)
            }),
            Err(error) => {
                tracing::error!(%error, "reading the ledger failed");
                Err(ReadError::Broken)
            }
        }
    }
}

/// Cancels a read when it is dropped.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn dropped_read_is_cancelled() {
        let reader = LedgerReader::new(Some(LedgerSource::File("a.db".into())));
        let (sender, receiver) = mpsc::channel();
        let endless = reader.read(move |_, bounds| {
            sender.send("begun").unwrap();
            while !bounds.given_up.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            sender.send("given up").unwrap();
            Ok(())
        });
        let begun = tokio::task::spawn_blocking(move || (receiver.recv(), receiver));
        tokio::select! {
            _ = endless => panic!("nothing ends it but being dropped"),
            begun = begun => {
                let (begun, receiver) = begun.unwrap();
                assert_eq!(begun, Ok("begun"));
                // `endless` is dropped at the end of the select.
                tokio::task::spawn_blocking(move || assert_eq!(receiver.recv(), Ok("given up")))
            }
        }
        .await
        .unwrap();
    }

    #[cfg(feature = "moved-clock")]
    #[tokio::test(start_paused = true)]
    async fn read_without_a_turn_is_busy() {
        let reader = LedgerReader::new(Some(LedgerSource::File("a.db".into())));
        let _turns = Arc::clone(&reader.turns).acquire_many_owned(AT_ONCE as u32).await.unwrap();
        assert!(matches!(reader.read(|_, _| Ok(())).await, Err(ReadError::Busy)));
    }

    #[tokio::test]
    async fn read_without_a_ledger_is_an_error() {
        let told = LedgerReader::new(None).read(|_, _| Ok(())).await.unwrap_err().describe();
        assert_eq!((told.0, told.1), (StatusCode::NOT_FOUND, "no_ledger"));
    }

    #[tokio::test]
    async fn missing_ledger_is_an_error_and_no_panic() {
        let reader = LedgerReader::new(Some(LedgerSource::File("/nowhere/a.db".into())));
        let told = reader
            .read(|place, bounds| {
                let all = crate::sinks::ledger::Selection::since(jiff::Timestamp::UNIX_EPOCH);
                place.records(&all, 1, None, bounds)
            })
            .await;
        let (status, _, message) = told.unwrap_err().describe();
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(message, "the ledger cannot be read: there is no such file");
    }
}
