//! Trouble of the ledger: records that are lost, or that wait for too long.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::watched::{Trouble, TroubleKind};
use crate::record::{Health, STUCK};

/// The label of the sink of the local ledger.
const LEDGER: &str = "ledger";

/// The subject of trouble with the fleet's database.
const POSTGRES: &str = "postgres";

/// The time for which PostgreSQL may take nothing: a restart of the server takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time for which a loss of records counts as trouble.
const LOSS: Duration = Duration::from_secs(60);

/// The counters at the earlier looks.
#[derive(Debug, Default)]
pub(super) struct LedgerWatch {
    ledger: Losses,
    postgres: Losses,
    /// The time since which PostgreSQL takes no records.
    away: Option<Instant>,
}

/// A counter of lost records.
#[derive(Debug, Default)]
struct Losses {
    /// `None` before the first look: what was lost before is no news.
    known: Option<u64>,
    /// The time of the latest loss, with the count of that time.
    latest: Option<(Instant, u64)>,
}

impl Losses {
    /// The number of records that were lost in the trouble of this time.
    fn look(&mut self, lost: u64, now: Instant) -> Option<u64> {
        let known = self.known.replace(lost).unwrap_or(lost);
        if lost > known {
            let before = self.latest.map_or(0, |(_, count)| count);
            self.latest = Some((now, before + lost - known));
        }
        self.latest.take_if(|(at, _)| now.saturating_duration_since(*at) >= LOSS);
        self.latest.map(|(_, count)| count)
    }
}

impl LedgerWatch {
    /// The trouble of this time.
    pub(super) fn troubles(&mut self, health: &Health, now: Instant) -> Vec<Trouble> {
        let mut found = Vec::new();
        if let Some(sink) = health.sinks().iter().find(|sink| sink.label == LEDGER) {
            let lost = self.ledger.look(sink.lost(), now);
            let (busy, waiting) = (sink.busy_for(), sink.waiting());
            if let Some(lost) = lost {
                found.push(of(LEDGER, "lost", format!("the ledger has lost {lost} usage records")));
            } else if busy >= STUCK {
                let seconds = busy.as_secs();
                let message = format!(
                    "the ledger has written nothing for {seconds} s, and {waiting} usage records wait"
                );
                found.push(of(LEDGER, "stuck", message));
            }
        }
        if let Some(shipping) = health.shipping.get() {
            let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            let lost = self.postgres.look(count(&shipping.refused) + count(&shipping.deleted), now);
            match shipping.up.load(Ordering::Relaxed) {
                true => self.away = None,
                false => _ = self.away.get_or_insert(now),
            }
            let away = self.away.map(|since| now.saturating_duration_since(since));
            if let Some(lost) = lost {
                let message = format!("PostgreSQL will never have {lost} usage records");
                found.push(of(POSTGRES, "lost", message));
            } else if let Some(away) = away.filter(|away| *away >= PATIENCE) {
                let (seconds, waiting) = (away.as_secs(), count(&shipping.waiting));
                let message = format!(
                    "PostgreSQL has taken no usage records for {seconds} s, and {waiting} wait in the local ledger"
                );
                found.push(of(POSTGRES, "away", message));
            }
        }
        found
    }
}

fn of(subject: &str, value: &str, message: String) -> Trouble {
    let (subject, value) = (subject.to_owned(), value.to_owned());
    Trouble {
        kind: TroubleKind::Ledger,
        subject,
        aspect: value.clone(),
        value,
        message: format!("streamgauge: {message}"),
        cost: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Journal, Shipping};

    #[test]
    fn loss_is_trouble_for_a_while() {
        let (mut losses, begin) = (Losses::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        for (second, lost, expected) in [
            // From before the first webhook.
            (0, 7, None),
            (1, 10, Some(3)),
            (2, 10, Some(3)),
            (50, 12, Some(5)),
            (111, 12, None),
            (112, 13, Some(1)),
        ] {
            assert_eq!(losses.look(lost, at(second)), expected, "{second}");
        }
    }

    #[test]
    fn database_that_is_away_is_trouble_after_a_while() {
        let journal = Journal::new(1);
        let shipping = journal.health().shipping.get_or_init(Shipping::default);
        let (mut watch, begin) = (LedgerWatch::default(), Instant::now());
        let mut look = |seconds| {
            let troubles = watch.troubles(journal.health(), begin + Duration::from_secs(seconds));
            troubles.into_iter().map(|trouble| (trouble.subject, trouble.value)).collect::<Vec<_>>()
        };
        let postgres = |value: &str| vec![("postgres".to_owned(), value.to_owned())];
        assert_eq!(look(0), []);
        assert_eq!(look(59), []);
        assert_eq!(look(60), postgres("away"));
        shipping.up.store(true, Ordering::Relaxed);
        assert_eq!(look(61), []);
        shipping.refused.store(2, Ordering::Relaxed);
        assert_eq!(look(62), postgres("lost"));
        assert_eq!(look(130), []);
    }
}
