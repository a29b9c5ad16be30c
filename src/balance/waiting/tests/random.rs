//! Random requests that arrive, end and leave, on a simulated clock.

use std::collections::BTreeMap;

use super::*;

/// The clients, of which each has requests of its own size.
const CLIENTS: u64 = 5;

struct Scene {
    fixture: Fixture,
    random: fastrand::Rng,
    concurrent: usize,
    running: Vec<Permit>,
    /// The waiting requests of each client, in the order of their arrival.
    waiting: BTreeMap<u64, Vec<Task>>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let concurrent = random.usize(1..6);
        let fixture = Fixture::of(1000, concurrent as u32);
        Self { fixture, random, concurrent, running: Vec::new(), waiting: BTreeMap::new() }
    }

    fn arrive(&mut self) {
        let now = self.fixture.now;
        let client = self.random.u64(..CLIENTS);
        if self.fixture.group.waiting() == 0
            && let Step::Ask(permit) = self.fixture.plan().next(now, self.random.u64(..))
        {
            return self.running.push(permit);
        }
        let turn = WaitTurn { client, share: 1, priority: 0, cost: 1 + client as u32 * 100 };
        let waiting = self.fixture.group.wait(self.fixture.plan(), turn, now);
        let mut task = Task { waiting, wakes: Arc::default() };
        match task.permit(now) {
            Some(permit) => self.running.push(permit),
            None => self.waiting.entry(client).or_default().push(task),
        }
    }

    fn end_one(&mut self) {
        if !self.running.is_empty() {
            let place = self.random.usize(..self.running.len());
            drop(self.running.swap_remove(place));
        }
    }

    fn leave(&mut self) {
        let client = self.random.u64(..CLIENTS);
        if let Some(tasks) = self.waiting.get_mut(&client).filter(|tasks| !tasks.is_empty()) {
            // Possibly one that was woken, or has its place already.
            drop(tasks.remove(self.random.usize(..tasks.len())));
        }
    }

    /// Polls the tasks that were woken, in any order, until none is.
    fn settle(&mut self) {
        let now = self.fixture.now;
        let mut served: Vec<(u64, usize)> = Vec::new();
        loop {
            let all =
                self.waiting.iter().flat_map(|(client, tasks)| (0..tasks.len()).map(|at| (*client, at)));
            let woken: Vec<_> =
                all.filter(|(client, at)| self.waiting[client][*at].wakes.take() > 0).collect();
            if woken.is_empty() {
                break;
            }
            for (client, at) in woken {
                let task = &mut self.waiting.get_mut(&client).unwrap()[at];
                if let Some(permit) = task.permit(now) {
                    self.running.push(permit);
                    served.push((client, at));
                }
            }
        }
        served.sort_unstable();
        for (client, at) in served.into_iter().rev() {
            self.waiting.get_mut(&client).unwrap().remove(at);
            // Those before it are served too: they are removed after it.
        }
    }

    fn check(&self) {
        let waiting: usize = self.waiting.values().map(Vec::len).sum();
        assert_eq!(self.fixture.group.waiting(), waiting);
        assert!(self.running.len() <= self.concurrent);
        assert!(waiting == 0 || self.running.len() == self.concurrent, "it waits though there is room");
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
        assert_eq!(scene.fixture.group.bound[0].load.running(), 0);
    }
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
