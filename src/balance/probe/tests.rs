use super::*;
use crate::balance::circuit::{CircuitState, Opening};
use crate::balance::verdict::CREDENTIALS;
use crate::support::UpstreamId;

const LEASE: Duration = Duration::from_secs(6);
const PATH: &str = "/models";

struct Fixture {
    registry: Arc<HealthRegistry>,
    start: Instant,
    upstream: Arc<UpstreamHealth>,
    policy: BreakerPolicy,
}

impl Fixture {
    fn new() -> Self {
        let start = Instant::now();
        let registry = HealthRegistry::new(start);
        let upstream = registry.upstream(&UpstreamId::from("u"));
        Self { registry, start, upstream, policy: BreakerPolicy::default() }
    }

    fn after(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn model(&self, name: &str) -> Arc<ModelHealth> {
        self.registry.model(&self.upstream, name)
    }

    /// The time at which a probe is due, in milliseconds.
    fn due(&self) -> Option<u64> {
        let due = self.registry.probe_due(&self.upstream, &self.registry.probed_models())?;
        Some(due.duration_since(self.start).as_millis() as u64)
    }

    fn begin(&self, millis: u64) -> Option<Probe> {
        let models = self.registry.probed_models();
        self.registry.begin_probe(&self.upstream, &models, PATH, self.after(millis), LEASE)
    }

    fn open(&self, model: &ModelHealth, reason: OutReason) {
        let (first, longest) = (self.policy.pause, self.policy.longest_pause);
        assert!(model.circuit.open(1000, &Opening { reason, first, longest }));
    }
}

#[test]
fn nothing_is_due_while_all_are_well() {
    let fixture = Fixture::new();
    fixture.model("m");
    assert_eq!(fixture.due(), None);
    assert!(fixture.begin(5000).is_none());
}

#[test]
fn probe_begins_before_the_pause_ends_and_keeps_requests_out() {
    let fixture = Fixture::new();
    let model = fixture.model("m");
    fixture.open(&model, OutReason::Failures);
    assert_eq!(fixture.due(), Some(2800));
    assert!(fixture.begin(2799).is_none());
    let probe = fixture.begin(2800).unwrap();
    assert!(fixture.begin(2810).is_none(), "one at a time");
    for tick in [2800, 3000, 8799] {
        assert_eq!(model.circuit.state(tick), CircuitState::Trial(8800), "{tick}");
        assert!(model.circuit.try_trial(tick, LEASE).is_none());
    }
    probe.record(ProbeResult::Good, &fixture.policy, fixture.after(3100));
    assert_eq!((model.out(), fixture.due()), (None, None));
    assert_eq!(ProbeResult::ALL.map(|result| fixture.upstream.probes().get(result)), [1, 0, 0]);
}

#[test]
fn failed_probe_doubles_the_pause_up_to_the_longest() {
    let fixture = Fixture::new();
    let model = fixture.model("m");
    fixture.open(&model, OutReason::SuccessRate);
    let mut due = fixture.due().unwrap();
    for pause in [4000, 8000, 16_000, 32_000, 60_000, 60_000] {
        fixture.begin(due).unwrap().record(ProbeResult::Failed, &fixture.policy, fixture.after(due));
        assert_eq!(model.out(), Some(OutReason::SuccessRate));
        let next = fixture.due().unwrap();
        assert_eq!(next - due, pause - 200);
        due = next;
    }
}

#[test]
fn refused_credentials_keep_their_longer_pauses() {
    let fixture = Fixture::new();
    assert!(fixture.upstream.circuit.open(1000, &CREDENTIALS));
    assert_eq!(fixture.due(), Some(60_800));
    fixture.begin(60_800).unwrap().record(ProbeResult::Refused, &fixture.policy, fixture.after(60_800));
    assert_eq!((fixture.upstream.out(), fixture.due()), (Some(OutReason::Credentials), Some(180_600)));
    fixture.begin(180_600).unwrap().record(ProbeResult::Good, &fixture.policy, fixture.after(181_000));
    assert_eq!(fixture.upstream.out(), None);
}

#[test]
fn open_path_does_not_let_refused_credentials_in() {
    let fixture = Fixture::new();
    let model = fixture.model("m");
    fixture.open(&model, OutReason::Failures);
    assert!(fixture.upstream.circuit.open(1000, &CREDENTIALS));
    // A good result tells that the model's service is back, and nothing about the credentials.
    let good = |millis| {
        fixture.begin(millis).unwrap().record(ProbeResult::Good, &fixture.policy, fixture.after(millis))
    };
    assert_eq!(good(60_800), ProbeResult::Undecided);
    assert_eq!((model.out(), fixture.upstream.out()), (None, Some(OutReason::Credentials)));
    assert!(fixture.upstream.circuit.try_trial(60_801, LEASE).is_some(), "the next request decides");
    assert_eq!(ProbeResult::ALL.map(|result| fixture.upstream.probes().get(result)), [0, 0, 1]);

    // Another path refuses them once.
    let fixture = Fixture::new();
    assert!(fixture.upstream.circuit.open(1000, &CREDENTIALS));
    let begin = |path, millis| {
        fixture.registry.begin_probe(&fixture.upstream, &[], path, fixture.after(millis), LEASE)
    };
    let refused = begin("/other", 60_800).unwrap();
    assert_eq!(
        refused.record(ProbeResult::Refused, &fixture.policy, fixture.after(60_800)),
        ProbeResult::Refused
    );
    let good = begin(PATH, 180_600).unwrap();
    assert_eq!(
        good.record(ProbeResult::Good, &fixture.policy, fixture.after(180_600)),
        ProbeResult::Undecided
    );
    let good = begin("/other", 180_700).unwrap();
    assert_eq!(good.record(ProbeResult::Good, &fixture.policy, fixture.after(180_700)), ProbeResult::Good);
    assert_eq!(fixture.upstream.out(), None);
}

#[test]
fn probe_decides_for_all_models_whose_pause_ends() {
    let fixture = Fixture::new();
    let (one, two, later) = (fixture.model("one"), fixture.model("two"), fixture.model("later"));
    fixture.open(&one, OutReason::Failures);
    fixture.open(&two, OutReason::Failures);
    let (first, longest) = (Duration::from_secs(9), Duration::from_secs(9));
    later.circuit.open(1000, &Opening { reason: OutReason::Failures, first, longest });
    fixture.begin(3000).unwrap().record(ProbeResult::Good, &fixture.policy, fixture.after(3000));
    assert_eq!((one.out(), two.out(), later.out()), (None, None, Some(OutReason::Failures)));
    assert_eq!(fixture.due(), Some(9800));
}

#[test]
fn reasons_that_a_probe_cannot_tell_are_left_to_requests() {
    for reason in [OutReason::Forbidden, OutReason::UnknownModel, OutReason::Quota] {
        let fixture = Fixture::new();
        let model = fixture.model("m");
        fixture.open(&model, reason);
        assert_eq!(fixture.due(), None);
        assert!(fixture.begin(9000).is_none());
        assert!(model.circuit.try_trial(9000, LEASE).is_some());
    }
}

#[test]
fn probe_without_a_result_leaves_the_trial_to_the_next_request() {
    let fixture = Fixture::new();
    let model = fixture.model("m");
    fixture.open(&model, OutReason::Failures);
    drop(fixture.begin(3000).unwrap());
    assert!(model.circuit.try_trial(3001, LEASE).is_some());
    assert!(fixture.begin(3002).is_none(), "a request has it");

    let model = fixture.model("other");
    fixture.open(&model, OutReason::Failures);
    fixture.begin(3000).unwrap().record(ProbeResult::Undecided, &fixture.policy, fixture.after(3001));
    assert!(model.circuit.try_trial(3001, LEASE).is_some());
}

#[test]
fn late_result_of_a_probe_changes_nothing() {
    let fixture = Fixture::new();
    let model = fixture.model("m");
    fixture.open(&model, OutReason::Failures);
    let probe = fixture.begin(3000).unwrap();
    let trial = model.circuit.try_trial(9001, LEASE).expect("the lease is over");
    probe.record(ProbeResult::Failed, &fixture.policy, fixture.after(9002));
    assert_eq!(model.circuit.state(9002), CircuitState::Trial(15_001));
    model.circuit.record_success(9003, Some(trial));
    assert_eq!(model.out(), None);
}

#[test]
fn opening_wakes_the_sender_once() {
    let registry = HealthRegistry::new(Instant::now());
    let (mut cx, mut seen) = (Context::from_waker(Waker::noop()), 0);
    assert!(registry.poll_opened(&mut cx, &mut seen).is_pending());
    registry.note_change();
    registry.note_change();
    assert!(registry.poll_opened(&mut cx, &mut seen).is_ready());
    assert!(registry.poll_opened(&mut cx, &mut seen).is_pending());
}
