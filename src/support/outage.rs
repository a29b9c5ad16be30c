//! Limits the log lines about a lasting failure.

/// Distinguishes a first failure from repeated ones, so that an outage is logged once, and its end
/// once. `K` is the kind of the failure: another kind is logged again.
#[derive(Debug, Default)]
pub struct OutageNotice<K = ()>(Option<K>);

impl<K: PartialEq> OutageNotice<K> {
    /// Records a failure. Returns true if it must be logged.
    pub fn record_failure(&mut self, kind: K) -> bool {
        let is_known = self.0.as_ref() == Some(&kind);
        self.0 = Some(kind);
        !is_known
    }

    /// Records a success. Returns true if it ends an outage.
    pub fn record_success(&mut self) -> bool {
        self.0.take().is_some()
    }

    pub fn is_failing(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outage_and_its_end_are_logged_once_each() {
        let mut outage = OutageNotice::default();
        assert!(!outage.record_success(), "nothing has failed");
        assert!(outage.record_failure(()) && outage.is_failing());
        assert!(!outage.record_failure(()));
        assert!(outage.record_success() && !outage.is_failing());
        assert!(!outage.record_success());
        assert!(outage.record_failure(()), "the next outage is logged again");
    }

    #[test]
    fn failure_of_another_kind_is_logged_again() {
        let mut outage = OutageNotice::default();
        let kinds = ["away", "away", "refused", "away"];
        assert_eq!(kinds.map(|kind| outage.record_failure(kind)), [true, false, true, true]);
        assert!(outage.record_success());
    }
}
