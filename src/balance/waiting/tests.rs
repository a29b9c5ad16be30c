mod random;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::*;
use crate::balance::{End, GroupSpec, HealthRegistry, MemberSpec, PlanRequest, PromptHash, UpstreamGroup};
use crate::support::UpstreamId;

/// Counts the wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Wakes {
    fn take(&self) -> usize {
        self.0.swap(0, SeqCst)
    }
}

/// A group of one member with room for one running request.
struct Fixture {
    group: Arc<UpstreamGroup>,
    now: Instant,
}

/// A waiting request, and the number of wakes of its task.
struct Task {
    waiting: Waiting,
    wakes: Arc<Wakes>,
}

impl Fixture {
    fn new(queue: usize) -> Self {
        Self::of(queue, 1)
    }

    fn of(queue: usize, concurrent: u32) -> Self {
        Self::limited(queue, concurrent, &[0])
    }

    /// A group of upstreams of which each has its own largest number of running requests.
    fn limited(queue: usize, concurrent: u32, upstreams: &[u32]) -> Self {
        let now = Instant::now();
        let registry = HealthRegistry::new(now);
        let member = |(number, limit): (usize, &u32)| {
            let id = UpstreamId::from(&*format!("u{number}"));
            registry.upstream(&id).limit_concurrent(*limit);
            MemberSpec::from(id)
        };
        let members = upstreams.iter().enumerate().map(member).collect();
        let wait = Some(Duration::from_secs(100));
        let spec = GroupSpec { wait, queue, concurrent, ..GroupSpec::of(vec![members]) };
        Self { group: UpstreamGroup::new(spec, &registry), now }
    }

    fn plan(&self) -> Plan {
        self.plan_at(None)
    }

    fn plan_at(&self, pin: Option<usize>) -> Plan {
        let request = PlanRequest {
            model: None,
            sticky: None,
            pin,
            fingerprint: PromptHash::new("c", None, []).fingerprint(),
            tokens: 0,
            started: self.now,
            client_deadline: None,
        };
        Plan::new(&self.group, &request, |_| None)
    }

    fn ask(&self) -> Permit {
        match self.plan().next(self.now, 0) {
            Step::Ask(permit) => permit,
            step => panic!("{step:?}"),
        }
    }

    fn enter(&self, client: u64) -> Task {
        let turn = WaitTurn { client, share: 1, priority: 0, cost: 10 };
        Task { waiting: self.group.wait(self.plan(), turn, self.now), wakes: Arc::default() }
    }
}

impl Task {
    fn poll(&mut self, now: Instant) -> Option<Waited> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        match self.waiting.poll(&mut Context::from_waker(&waker), now, 0) {
            Poll::Ready(waited) => Some(waited),
            Poll::Pending => None,
        }
    }

    fn permit(&mut self, now: Instant) -> Option<Permit> {
        match self.poll(now)? {
            Waited::Served(_, Step::Ask(permit)) => Some(permit),
            other => panic!("{other:?}"),
        }
    }
}

use crate::balance::Permit;

#[test]
fn place_that_frees_goes_to_the_next_in_turn() {
    let fixture = Fixture::new(10);
    let now = fixture.now;
    let running = fixture.ask();
    let mut tasks = [1, 1, 2].map(|client| fixture.enter(client));
    assert!(tasks.iter_mut().all(|task| task.poll(now).is_none()));
    assert_eq!(fixture.group.waiting(), 3);
    drop(running);
    assert_eq!(tasks[0].wakes.take(), 1);
    let first = tasks[0].permit(now).unwrap();
    assert!(tasks[1].permit(now).is_none() && tasks[2].permit(now).is_none());
    drop(first);
    // The other client is served next, whichever request was woken.
    assert!(tasks[1].permit(now).is_none());
    assert!(tasks[2].wakes.take() >= 1);
    let second = tasks[2].permit(now).unwrap();
    drop(second);
    assert!(tasks[1].permit(now).is_some());
    assert_eq!(fixture.group.waiting(), 0);
}

#[test]
fn woken_request_has_its_place_before_it_is_polled() {
    let fixture = Fixture::new(10);
    let now = fixture.now;
    let running = fixture.ask();
    let mut tasks = [1, 2].map(|client| fixture.enter(client));
    assert!(tasks.iter_mut().all(|task| task.poll(now).is_none()));
    drop(running);
    // The second one is polled first, and gives the first its place.
    assert!(tasks[1].poll(now).is_none());
    assert!(tasks[0].wakes.take() >= 1);
    assert!(matches!(fixture.plan().next(now, 0), Step::Wait(_)), "a newcomer does not overtake");
    assert!(tasks[0].permit(now).is_some());
}

#[test]
fn request_that_leaves_passes_its_place_and_its_wake_up_on() {
    let fixture = Fixture::new(10);
    let now = fixture.now;
    let running = fixture.ask();
    let mut tasks: Vec<_> = (1..4).map(|client| fixture.enter(client)).collect();
    assert!(tasks.iter_mut().all(|task| task.poll(now).is_none()));
    drop(running);
    // The request was woken, and is dropped before it is polled.
    assert_eq!(tasks[0].wakes.take(), 1);
    tasks.remove(0);
    assert_eq!((fixture.group.waiting(), tasks[0].wakes.take()), (2, 1));
    // The request has its place already, and is dropped before it is polled.
    assert!(tasks[1].poll(now).is_none());
    tasks.remove(0);
    assert!(tasks[0].wakes.take() >= 1);
    assert!(tasks[0].permit(now).is_some());
    assert_eq!(fixture.group.waiting(), 0);
}

#[test]
fn full_queue_refuses_the_largest_client() {
    let fixture = Fixture::new(2);
    let now = fixture.now;
    let _running = fixture.ask();
    let mut tasks = [1, 1, 2, 1].map(|client| fixture.enter(client));
    assert!(tasks[0].poll(now).is_none() && tasks[2].poll(now).is_none());
    assert!(matches!(tasks[1].poll(now), Some(Waited::Refused(_))), "the newest of the first client");
    assert!(matches!(tasks[3].poll(now), Some(Waited::Refused(_))));
}

#[test]
fn limits_of_a_group_change_when_it_is_put_in_use() {
    let fixture = Fixture::new(10);
    let now = fixture.now;
    let _running = fixture.ask();
    let mut tasks = [fixture.enter(1), fixture.enter(1)];
    assert!(tasks.iter_mut().all(|task| task.poll(now).is_none()));
    let spec = GroupSpec { concurrent: 2, ..fixture.group.spec().clone() };
    let next = UpstreamGroup::new(spec, &fixture.group.registry);
    assert!(tasks[0].wakes.take() == 0 && tasks[0].poll(now).is_none(), "it may still be refused");
    next.put_in_use();
    assert_eq!(tasks[0].wakes.take(), 1);
    assert!(tasks[0].permit(now).is_some());
}

#[test]
fn end_of_the_wait_is_told() {
    let fixture = Fixture::new(2);
    let _running = fixture.ask();
    let mut task = fixture.enter(1);
    assert!(task.poll(fixture.now).is_none());
    let late = fixture.now + Duration::from_secs(100);
    assert!(matches!(task.poll(late), Some(Waited::Served(_, Step::End(End::Full)))));
}

#[test]
fn end_of_a_pause_is_told_for_the_timer() {
    let fixture = Fixture::new(2);
    let now = fixture.now;
    fixture.group.bound[0].upstream.refuse_credentials(1);
    let mut task = fixture.enter(1);
    assert!(task.poll(now).is_none());
    let until = task.waiting.wake_at();
    assert_eq!((until - now).as_secs(), 60);
    assert!(task.permit(until).is_some_and(|permit| permit.is_trial()));
}

#[test]
fn no_wake_up_is_lost_between_threads() {
    let fixture = Fixture::new(1000);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (fixture, served) = (&fixture, &served);
            scope.spawn(move || {
                for _ in 0..500 {
                    let thread = std::thread::current();
                    let mut waiting = fixture.enter(client).waiting;
                    let waker = Waker::from(Arc::new(Unpark(thread)));
                    let permit = loop {
                        let polled = waiting.poll(&mut Context::from_waker(&waker), fixture.now, client);
                        match polled {
                            Poll::Ready(Waited::Served(_, Step::Ask(permit))) => break permit,
                            Poll::Ready(other) => panic!("{other:?}"),
                            // A lost wake-up would be a time-out here.
                            Poll::Pending => std::thread::park_timeout(Duration::from_secs(20)),
                        }
                    };
                    served.fetch_add(1, SeqCst);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!((served.into_inner(), fixture.group.waiting()), (2000, 0));
    assert!(fixture.now.elapsed() < Duration::from_secs(15), "a wake-up was lost");
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
