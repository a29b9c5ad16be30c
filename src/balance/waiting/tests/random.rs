//! Random requests that arrive, end and leave, on a simulated clock.

use super::*;

/// The clients, of which each has requests of its own size.
const CLIENTS: u64 = 5;

/// The rounds after which all woken requests have been polled.
const ROUNDS: usize = 2000;

struct Scene {
    fixture: Fixture,
    random: fastrand::Rng,
    /// The largest number of running requests of each member.
    limits: Vec<usize>,
    running: Vec<Permit>,
    waiting: Vec<Waiter>,
}

struct Waiter {
    /// The only member that can serve it.
    pin: Option<usize>,
    task: Task,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let concurrent = random.u32(..6);
        let members = random.usize(1..4);
        // A limit of the group's members, of an upstream, or of both.
        let upstreams: Vec<_> =
            (0..members).map(|_| if concurrent == 0 { random.u32(1..6) } else { random.u32(..6) }).collect();
        let fixture = Fixture::limited(1000, concurrent, &upstreams);
        let limit = |own: &u32| [*own, concurrent].into_iter().filter(|&limit| limit > 0).min();
        let limits = upstreams.iter().filter_map(limit).map(|limit| limit as usize).collect();
        Self { fixture, random, limits, running: Vec::new(), waiting: Vec::new() }
    }

    fn arrive(&mut self) {
        let now = self.fixture.now;
        let client = self.random.u64(..CLIENTS);
        let pin = self.random.bool().then(|| self.random.usize(..self.limits.len()));
        let mut plan = self.fixture.plan_at(pin);
        if let Step::Ask(permit) = plan.next_in_turn(now, self.random.u64(..)) {
            return self.running.push(permit);
        }
        let turn = WaitTurn { client, share: 1, priority: 0, cost: 1 + client as u32 * 100 };
        let mut task = Task { waiting: self.fixture.group.wait(plan, turn, now), wakes: Arc::default() };
        match task.permit(now) {
            Some(permit) => self.running.push(permit),
            None => self.waiting.push(Waiter { pin, task }),
        }
    }

    fn end_one(&mut self) {
        if !self.running.is_empty() {
            let place = self.random.usize(..self.running.len());
            drop(self.running.swap_remove(place));
        }
    }

    fn leave(&mut self) {
        if !self.waiting.is_empty() {
            // Possibly one that was woken, or has its place already.
            drop(self.waiting.swap_remove(self.random.usize(..self.waiting.len())));
        }
    }

    /// Polls the tasks that were woken, in any order, until none is.
    fn settle(&mut self) {
        let now = self.fixture.now;
        for _ in 0..ROUNDS {
            let mut is_quiet = true;
            let mut place = 0;
            while let Some(Waiter { task, .. }) = self.waiting.get_mut(place) {
                if task.wakes.take() > 0 {
                    is_quiet = false;
                    if let Some(permit) = task.permit(now) {
                        self.running.push(permit);
                        self.waiting.swap_remove(place);
                        continue;
                    }
                }
                place += 1;
            }
            if is_quiet {
                return;
            }
        }
        panic!("the requests wake each other for ever");
    }

    fn check(&self) {
        assert_eq!(self.fixture.group.waiting(), self.waiting.len());
        assert_eq!(self.fixture.group.registry.waiters(), self.waiting.len());
        let running = |member| self.running.iter().filter(|permit| permit.number() == member).count();
        let has_room: Vec<_> = self
            .limits
            .iter()
            .enumerate()
            .map(|(at, limit)| {
                assert!(running(at) <= *limit);
                running(at) < *limit
            })
            .collect();
        for Waiter { pin, .. } in &self.waiting {
            let may_run = match pin {
                Some(member) => has_room[*member],
                None => has_room.contains(&true),
            };
            assert!(!may_run, "it waits though there is room");
        }
    }
}

#[test]
fn places_are_used_and_none_is_lost() {
    for seed in 0..200 {
        let mut scene = Scene::new(seed);
        for _ in 0..400 {
            match scene.random.u32(..10) {
                0..5 => scene.arrive(),
                5..9 => scene.end_one(),
                _ => scene.leave(),
            }
            // A newcomer may arrive before the woken requests are polled.
            if scene.random.bool() {
                scene.settle();
                scene.check();
            }
        }
        while !scene.running.is_empty() || scene.fixture.group.waiting() > 0 {
            scene.end_one();
            scene.settle();
            scene.check();
        }
        assert!(scene.fixture.group.bound.iter().all(|bound| bound.load.running() == 0));
    }
}

#[test]
fn newcomer_takes_a_place_that_no_waiting_request_can_use() {
    // The queue is full.
    let fixture = Fixture::limited(1, 0, &[1, 1]);
    let now = fixture.now;
    let Step::Ask(running) = fixture.plan_at(Some(0)).next(now, 0) else { panic!("there is room") };
    let turn = WaitTurn { client: 1, share: 1, priority: 0, cost: 10 };
    let waiting = fixture.group.wait(fixture.plan_at(Some(0)), turn, now);
    let mut task = Task { waiting, wakes: Arc::default() };
    assert!(task.poll(now).is_none());
    assert!(matches!(fixture.plan_at(Some(0)).next_in_turn(now, 0), Step::Wait(_)));
    let Step::Ask(other) = fixture.plan_at(Some(1)).next_in_turn(now, 0) else {
        panic!("its member is free")
    };
    assert_eq!(other.number(), 1);
    // The place that frees is the waiting request's, even if a newcomer looks first.
    drop(running);
    assert!(matches!(fixture.plan_at(Some(0)).next_in_turn(now, 0), Step::Wait(_)));
    assert_eq!(task.permit(now).map(|permit| permit.number()), Some(0));
    drop(other);
    assert!(matches!(fixture.plan().next_in_turn(now, 0), Step::Ask(permit) if permit.number() == 1));
}

#[test]
fn bound_request_at_a_full_upstream_waits_without_waking_itself() {
    let fixture = Fixture::limited(10, 0, &[1, 1]);
    let now = fixture.now;
    let Step::Ask(running) = fixture.plan_at(Some(0)).next(now, 0) else { panic!("there is room") };
    let turn = WaitTurn { client: 1, share: 1, priority: 0, cost: 10 };
    let waiting = fixture.group.wait(fixture.plan_at(Some(0)), turn, now);
    let mut task = Task { waiting, wakes: Arc::default() };
    for _ in 0..3 {
        assert!(task.poll(now).is_none());
        assert_eq!(task.wakes.take(), 0);
    }
    drop(running);
    assert_eq!(task.wakes.take(), 1);
    assert_eq!(task.permit(now).map(|permit| permit.number()), Some(0));
}

#[test]
fn requests_of_a_client_are_served_in_their_order() {
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let fixture = Fixture::new(1000);
        let mut running = Some(fixture.ask());
        let mut tasks: Vec<_> = (0..50)
            .map(|_| {
                let client = random.u64(..CLIENTS);
                let mut task = fixture.enter(client);
                assert!(task.poll(fixture.now).is_none());
                (client, task)
            })
            .collect();
        while !tasks.is_empty() {
            drop(running.take());
            // Any of the waiting requests is polled first.
            let polled = random.usize(..tasks.len());
            running = tasks[polled].1.permit(fixture.now);
            let served = match running {
                Some(_) => polled,
                None => {
                    let served = (0..tasks.len()).find(|&at| {
                        running = tasks[at].1.permit(fixture.now);
                        running.is_some()
                    });
                    served.expect("one is served")
                }
            };
            let client = tasks[served].0;
            assert!(tasks[..served].iter().all(|(other, _)| *other != client), "an earlier one waits");
            tasks.remove(served);
        }
    }
}
