//! Decides which notices a webhook gets.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{Alert, AlertField};

/// The time within which trouble that comes back gives no second notice: an upstream that fails all
/// the time is let in for a moment now and then.
const QUIET: Duration = Duration::from_secs(5 * 60);

/// A limit of a calendar period, at one time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LimitSeen {
    /// The same after a reload that changes the order of limits.
    pub(super) id: usize,
    /// `clients.search.limits[0]`.
    pub(super) subject: String,
    /// `client search`.
    pub(super) whose: String,
    /// The part that is used or held.
    pub(super) ratio: f64,
    pub(super) begin: Timestamp,
    pub(super) end: Timestamp,
}

/// The kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TroubleKind {
    /// An upstream gets no requests.
    Upstream,
    /// The ledger, or PostgreSQL, does not take records.
    Ledger,
    /// A client costs much more in an hour than usual.
    Spike,
}

/// A fault at one time. A webhook gets it once while it lasts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trouble {
    pub(super) kind: TroubleKind,
    /// The name of what it is about.
    pub(super) subject: String,
    /// The part of the subject that is a fault of its own: the kind of a ledger's trouble, the
    /// currency of a spike. Empty for an upstream, whose reason may change.
    pub(super) aspect: String,
    pub(super) value: String,
    pub(super) message: String,
    /// The size of a spike: webhooks whose `spikes` is lower get it.
    pub(super) cost: f64,
}

impl TroubleKind {
    fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Ledger => "ledger",
            Self::Spike => "spike",
        }
    }
}

impl Trouble {
    /// An upstream that is out for this reason.
    pub(super) fn of_upstream(name: &str, reason: &str) -> Self {
        Self {
            kind: TroubleKind::Upstream,
            subject: name.to_owned(),
            aspect: String::new(),
            value: reason.to_owned(),
            message: format!("streamgauge: upstream {name} is out ({reason}) and gets no requests"),
            cost: 0.0,
        }
    }

    fn concerns(&self, alert: &Alert) -> bool {
        match self.kind {
            TroubleKind::Upstream => alert.upstreams,
            TroubleKind::Ledger => alert.ledger,
            TroubleKind::Spike => alert.spikes.is_some_and(|floor| self.cost > floor),
        }
    }
}

/// A notice for a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    kind: &'static str,
    subject: String,
    value: String,
    message: String,
    time: Timestamp,
}

impl Notice {
    /// A field, for a template.
    pub(super) fn field(&self, field: AlertField) -> Cow<'_, str> {
        match field {
            AlertField::Message => (&*self.message).into(),
            AlertField::Kind => self.kind.into(),
            AlertField::Subject => (&*self.subject).into(),
            AlertField::Value => (&*self.value).into(),
            AlertField::Time => self.time.to_string().into(),
        }
    }
}

/// The notices that a webhook has had.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// By limit: the period, and the highest threshold of it.
    limits: HashMap<usize, (Timestamp, f64)>,
    /// The times of the notices of trouble that is there, or was a while ago.
    troubles: HashMap<(TroubleKind, String, String), Timestamp>,
}

impl Watched {
    /// The notices of this time.
    pub(super) fn notices(
        &mut self,
        alert: &Alert,
        limits: &[LimitSeen],
        troubles: &[Trouble],
        now: Timestamp,
    ) -> Vec<Notice> {
        // A limit that is gone is forgotten.
        self.limits.retain(|id, _| limits.iter().any(|seen| seen.id == *id));
        let mut notices: Vec<_> =
            limits.iter().filter_map(|seen| self.of_limit(&alert.thresholds, seen, now)).collect();
        let key = |trouble: &Trouble| (trouble.kind, trouble.subject.clone(), trouble.aspect.clone());
        let told: Vec<_> = troubles.iter().filter(|trouble| trouble.concerns(alert)).collect();
        let is_recent = |at: &Timestamp| now.duration_since(*at).unsigned_abs() < QUIET;
        self.troubles.retain(|known, at| told.iter().any(|trouble| key(trouble) == *known) || is_recent(at));
        for trouble in told {
            if let Entry::Vacant(place) = self.troubles.entry(key(trouble)) {
                place.insert(now);
                let Trouble { kind, subject, value, message, .. } = trouble.clone();
                notices.push(Notice { kind: kind.name(), subject, value, message, time: now });
            }
        }
        notices
    }

    fn of_limit(&mut self, thresholds: &[f64], seen: &LimitSeen, now: Timestamp) -> Option<Notice> {
        let reached = thresholds.iter().copied().rfind(|part| seen.ratio >= *part)?;
        let told = self.limits.entry(seen.id).or_insert((seen.begin, 0.0));
        if told.0 != seen.begin {
            *told = (seen.begin, 0.0);
        }
        if reached <= told.1 {
            return None;
        }
        told.1 = reached;
        let LimitSeen { subject, whose, ratio, end, .. } = seen;
        let message = format!(
            "streamgauge: {whose} has used {:.0} % of {subject}, which begins again at {end}",
            (ratio * 100.0).floor()
        );
        let (subject, value) = (subject.clone(), reached.to_string());
        Some(Notice { kind: "limit", subject, value, message, time: now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AlertTemplate, from_text};

    fn alert(keys: &str) -> Alert {
        let text = format!(
            "[upstreams.openai]\napi_key = {{ value = \"sk\" }}\n[[alerts]]\nurl = {{ value = \"http://127.0.0.1:9\" }}\n{keys}\n\
             [[prices]]\nmodel = \"*\"\ninput = 1\noutput = 1\n"
        );
        from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings.alerts.remove(0)
    }

    fn trouble(kind: TroubleKind, aspect: &str, cost: f64) -> Trouble {
        let (aspect, value) = (aspect.to_owned(), aspect.to_owned());
        Trouble { kind, subject: "a".to_owned(), aspect, value, message: String::new(), cost }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(ratio: f64, begin: i64) -> LimitSeen {
        let (subject, whose) = ("clients.a.limits[0]".to_owned(), "client a".to_owned());
        LimitSeen { id: 0, subject, whose, ratio, begin: at(begin), end: at(begin + 86_400) }
    }

    #[test]
    fn threshold_is_told_once_in_each_period() {
        let (mut watched, alert) = (Watched::default(), alert("limits = [0.5, 0.8, 1]"));
        for (ratio, begin, told) in [
            (0.4, 0, None),
            (0.5, 0, Some("0.5")),
            (0.6, 0, None),
            // A hold was given back.
            (0.4, 0, None),
            (0.7, 0, None),
            (1.2, 0, Some("1")),
            (0.9, 0, None),
            (0.1, 86_400, None),
            (0.9, 86_400, Some("0.8")),
        ] {
            let notices = watched.notices(&alert, &[seen(ratio, begin)], &[], at(begin));
            let values: Vec<_> = notices.iter().map(|notice| notice.value.as_str()).collect();
            assert_eq!(values, told.into_iter().collect::<Vec<_>>(), "{ratio} {begin}");
        }
        assert!(watched.notices(&alert, &[], &[], at(1)).is_empty());
        assert!(watched.limits.is_empty(), "a limit that is gone is forgotten");
    }

    #[test]
    fn outage_is_told_once_and_again_after_a_while() {
        let (mut watched, alert) = (Watched::default(), alert(""));
        let out = [Trouble::of_upstream("azure", "failures")];
        for (second, is_out, told) in
            [(0, true, 1), (1, true, 0), (2, false, 0), (3, true, 0), (400, false, 0), (401, true, 1)]
        {
            let out = if is_out { &out[..] } else { &[] };
            assert_eq!(watched.notices(&alert, &[], out, at(second)).len(), told, "{second}");
        }
        let silent = self::alert("upstreams = false");
        assert!(Watched::default().notices(&silent, &[], &out, at(0)).is_empty());
    }

    #[test]
    fn each_kind_of_trouble_is_told_by_its_own_key() {
        let all = [
            trouble(TroubleKind::Upstream, "", 0.0),
            trouble(TroubleKind::Ledger, "lost", 0.0),
            trouble(TroubleKind::Spike, "USD", 12.0),
        ];
        for (keys, told) in [
            ("", &["upstream", "ledger"][..]),
            ("spikes = 10\nledger = false", &["upstream", "spike"]),
            ("spikes = 12\nupstreams = false", &["ledger"]),
        ] {
            let notices = Watched::default().notices(&alert(keys), &[], &all, at(0));
            let kinds: Vec<_> = notices.iter().map(|notice| notice.kind).collect();
            assert_eq!(kinds, told, "{keys}");
        }
    }

    #[test]
    fn other_trouble_of_one_subject_has_its_own_notice() {
        let [stuck, lost] = ["stuck", "lost"].map(|aspect| trouble(TroubleKind::Ledger, aspect, 0.0));
        let [dollars, euros] = ["USD", "EUR"].map(|aspect| trouble(TroubleKind::Spike, aspect, 12.0));
        let (mut watched, alert) = (Watched::default(), alert("spikes = 10"));
        for (second, troubles, expected) in [
            (0, vec![&stuck, &dollars], vec!["stuck", "USD"]),
            (1, vec![&lost, &dollars, &euros], vec!["lost", "EUR"]),
            (2, vec![&lost, &dollars, &euros], vec![]),
            (3, vec![&stuck, &euros], vec![]),
        ] {
            let troubles: Vec<_> = troubles.into_iter().cloned().collect();
            let notices = watched.notices(&alert, &[], &troubles, at(second));
            let values: Vec<_> = notices.iter().map(|notice| notice.value.as_str()).collect();
            assert_eq!(values, expected, "{second}");
        }
    }

    #[test]
    fn notice_fills_the_places_of_a_template() {
        let out = [Trouble::of_upstream("azure", "failures")];
        let notice = Watched::default().notices(&alert(""), &[], &out, at(0)).remove(0);
        let template =
            AlertTemplate::parse(r#"{"a":"${kind}|${subject}|${value}|${time}","b":"${message}"}"#).unwrap();
        assert_eq!(
            template.render(|field| notice.field(field)),
            r#"{"a":"upstream|azure|failures|1970-01-01T00:00:00Z","b":"streamgauge: upstream azure is out (failures) and gets no requests"}"#
        );
    }
}
