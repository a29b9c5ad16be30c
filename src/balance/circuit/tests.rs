use super::*;

const POLICY: BreakerPolicy = BreakerPolicy {
    failures: 5,
    success_rate: 0.5,
    requests: 20,
    pause: Duration::from_secs(2),
    longest_pause: Duration::from_secs(60),
    trial: Duration::from_secs(10),
};

/// Records failures of two clients in turn until the circuit opens, at most this many.
fn fail(circuit: &Circuit, tick: u64, times: u32) -> Option<OutReason> {
    (0..times).find_map(|client| circuit.record_failure(tick, None, Some(client % 2), &POLICY))
}

#[test]
fn circuit_opens_after_failures_in_a_row() {
    let circuit = Circuit::default();
    assert_eq!(fail(&circuit, 1, 4), None);
    circuit.record_success(1, None);
    assert_eq!(fail(&circuit, 1, 4), None);
    assert_eq!(fail(&circuit, 1, 1), Some(OutReason::Failures));
    assert_eq!(circuit.state(1), CircuitState::Open(2001));
    assert_eq!(circuit.reason(), Some(OutReason::Failures));
    assert_eq!(circuit.state(2001), CircuitState::HalfOpen);
}

#[test]
fn run_of_one_client_with_one_prompt_opens_nothing() {
    let circuit = Circuit::default();
    for tick in 1..1000 {
        assert_eq!(circuit.record_failure(tick, None, Some(7), &POLICY), None);
    }
    assert_eq!(circuit.record_failure(1000, None, Some(8), &POLICY), Some(OutReason::Failures));
}

#[test]
fn run_that_no_request_can_cause_needs_no_second_client() {
    let circuit = Circuit::default();
    let opened: Vec<_> = (0..5).map(|_| circuit.record_failure(1, None, None, &POLICY)).collect();
    assert_eq!(opened[3..], [None, Some(OutReason::Failures)]);
}

#[test]
fn member_that_fails_six_of_ten_is_out_within_30_s() {
    // Two requests a second, and never five failures in a row.
    let pattern = [false, false, true, false, true, false, false, true, false, true];
    let circuit = Circuit::default();
    let opened = (0..60).find_map(|number| {
        let tick = 1 + number as u64 * 500;
        if pattern[number % 10] {
            circuit.record_success(tick, None);
            return None;
        }
        circuit.record_failure(tick, None, Some(number as u32), &POLICY).map(|reason| (tick, reason))
    });
    let (tick, reason) = opened.unwrap();
    assert_eq!(reason, OutReason::SuccessRate);
    assert!(tick < 30_000, "{tick}");
}

#[test]
fn success_rate_needs_two_fingerprints_too() {
    let circuit = Circuit::default();
    for number in 0..100 {
        if number % 3 == 0 {
            circuit.record_success(1, None);
        }
        assert_eq!(circuit.record_failure(1, None, Some(7), &POLICY), None);
    }
    circuit.record_success(1, None);
    assert_eq!(circuit.record_failure(1, None, Some(8), &POLICY), Some(OutReason::SuccessRate));
}

#[test]
fn half_open_circuit_gives_exactly_one_trial_to_many_threads() {
    let circuit = Circuit::default();
    fail(&circuit, 1, 5);
    let take = || circuit.try_trial(2001, POLICY.trial).is_some();
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..1000).filter(|_| take()).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 1);
    assert_eq!(circuit.state(2001), CircuitState::Trial(12_001));
}

#[test]
fn trial_decides_and_pauses_double_to_the_longest() {
    let circuit = Circuit::default();
    fail(&circuit, 1, 5);
    let (mut tick, mut pauses) = (2001, Vec::new());
    for _ in 0..7 {
        let trial = circuit.try_trial(tick, POLICY.trial).unwrap();
        circuit.record_failure(tick, Some(trial), Some(1), &POLICY);
        let CircuitState::Open(until) = circuit.state(tick) else { panic!("{:?}", circuit.state(tick)) };
        pauses.push((until - tick) / 1000);
        tick = until;
    }
    assert_eq!(pauses, [4, 8, 16, 32, 60, 60, 60]);
    let trial = circuit.try_trial(tick, POLICY.trial).unwrap();
    circuit.record_success(tick, Some(trial));
    assert_eq!((circuit.state(tick), circuit.reason()), (CircuitState::Closed, None));
}

#[test]
fn pause_begins_at_the_first_one_after_30_s_without() {
    for (steady, pause) in [(29_000, 4_000), (32_000, 2_000)] {
        let circuit = Circuit::default();
        fail(&circuit, 1, 5);
        let trial = circuit.try_trial(5_000, POLICY.trial).unwrap();
        circuit.record_success(5_000, Some(trial));
        fail(&circuit, 5_000 + steady, 5);
        assert_eq!(circuit.state(5_000 + steady), CircuitState::Open(5_000 + steady + pause));
    }
}

#[test]
fn trial_without_a_result_is_given_to_another_request() {
    let circuit = Circuit::default();
    fail(&circuit, 1, 5);
    let first = circuit.try_trial(2001, POLICY.trial).unwrap();
    circuit.free_trial(first);
    let second = circuit.try_trial(2500, POLICY.trial).unwrap();
    // The lease is over: a third request becomes the trial, and the late result no longer counts.
    assert_eq!(circuit.try_trial(12_499, POLICY.trial), None);
    let third = circuit.try_trial(12_500, POLICY.trial).unwrap();
    circuit.record_success(12_501, Some(second));
    circuit.free_trial(first);
    assert_eq!(circuit.state(12_501), CircuitState::Trial(22_500));
    circuit.record_success(12_502, Some(third));
    assert_eq!(circuit.state(12_502), CircuitState::Closed);
}

#[test]
fn bad_trial_that_has_lost_its_place_does_not_double_the_pause() {
    let circuit = Circuit::default();
    fail(&circuit, 1, 5);
    let lost = circuit.try_trial(2001, POLICY.trial).unwrap();
    let trial = circuit.try_trial(12_001, POLICY.trial).expect("the lease is over");
    assert_eq!(circuit.record_failure(12_002, Some(lost), Some(1), &POLICY), None);
    circuit.fail_probe(12_002, lost, &POLICY);
    assert_eq!(circuit.record_failure(12_003, Some(trial), Some(1), &POLICY), Some(OutReason::Failures));
    assert_eq!(circuit.state(12_003), CircuitState::Open(12_003 + 4_000), "twice the first pause");
}

#[test]
fn results_of_an_open_circuit_change_nothing() {
    let circuit = Circuit::default();
    fail(&circuit, 1, 5);
    circuit.record_success(2, None);
    assert_eq!(fail(&circuit, 3, 50), None);
    assert_eq!(circuit.state(3), CircuitState::Open(2001));
}

#[test]
fn closed_circuit_has_forgotten_its_failures() {
    let circuit = Circuit::default();
    fail(&circuit, 1, 5);
    let trial = circuit.try_trial(2001, POLICY.trial).unwrap();
    circuit.record_success(2001, Some(trial));
    assert_eq!(fail(&circuit, 2002, 4), None);
}

#[test]
fn opening_for_another_reason_extends_and_does_not_double() {
    let minute = Duration::from_secs(60);
    let credentials =
        Opening { reason: OutReason::Credentials, first: minute, longest: Duration::from_secs(1800) };
    let circuit = Circuit::default();
    fail(&circuit, 1, 5);
    assert!(circuit.open(1, &credentials));
    assert!(!circuit.open(2, &credentials), "it is open for this reason");
    assert_eq!(circuit.state(2), CircuitState::Open(60_001));
    assert!(circuit.open(60_001, &credentials));
    assert_eq!(circuit.state(60_001), CircuitState::Open(180_001));
    circuit.close();
    assert!(circuit.open(60_003, &credentials));
    assert_eq!(circuit.state(60_003), CircuitState::Open(120_003), "closed by hand, it begins again");
}
