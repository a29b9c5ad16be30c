//! Requests that wait, arrive, end and leave, on a simulated clock: only those that are woken, and
//! those whose timer is due, are polled.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::super::{
    BucketRate, LimitBound, LimitFilter, LimitSpec, NoRoom, Quantity, ReplyWait, Unpriced, Use, Weights,
};
use super::*;
use crate::support::wait_room::WaitEnd;

const SECOND: u64 = 1_000_000_000;

const LONGEST: u64 = 3_600 * SECOND;

fn now(nanos: u64) -> Now {
    Now { nanos, time: Timestamp::UNIX_EPOCH }
}

fn waiting_limit(quantity: Quantity, bound: LimitBound) -> Arc<UseLimit> {
    let (filter, unpriced) = (LimitFilter::default(), Unpriced::Refuse);
    let spec = LimitSpec { quantity, bound, at_limit: AtLimit::Wait(LONGEST), filter, unpriced };
    Arc::new(UseLimit::new(spec, now(0)))
}

fn requests(limit: u64, burst: u64) -> Arc<UseLimit> {
    let rate = BucketRate { limit: limit.into(), period: SECOND, burst: burst.into() };
    waiting_limit(Quantity::Requests, LimitBound::Rate(rate))
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A waiting request, by its client and its number.
struct Task {
    client: u64,
    number: usize,
    waiting: Wait<LimitWant>,
    flag: Arc<Flag>,
}

impl Task {
    fn new(limit: &Arc<UseLimit>, client: u64, number: usize, want: u64) -> Self {
        Self::until(limit, client, number, want, LONGEST)
    }

    fn until(limit: &Arc<UseLimit>, client: u64, number: usize, want: u64, deadline: u64) -> Self {
        let turn = WaitTurn { client, share: 1, priority: 0, cost: want as u32 };
        let waiting = limit.wait(want.into(), Timestamp::UNIX_EPOCH, turn, deadline);
        Self { client, number, waiting, flag: Arc::new(Flag(true.into())) }
    }

    fn poll(&mut self, nanos: u64) -> Option<LimitHold> {
        match self.poll_end(nanos) {
            Poll::Ready(WaitEnd::Served(_, Ok(hold))) => Some(hold),
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => None,
        }
    }

    fn poll_end(&mut self, nanos: u64) -> Poll<WaitEnd<LimitWant>> {
        let waker = Waker::from(Arc::clone(&self.flag));
        self.waiting.poll(&mut Context::from_waker(&waker), nanos, 0)
    }
}

/// Polls what is woken or due until nothing is. Returns those that were served.
fn settle(tasks: &mut Vec<Task>, nanos: u64) -> Vec<(u64, usize, LimitHold)> {
    let mut served = Vec::new();
    let is_due = |task: &Task| task.flag.0.swap(false, Ordering::SeqCst) || task.waiting.wake_at() <= nanos;
    while let Some(place) = tasks.iter().position(is_due) {
        if let Some(hold) = tasks[place].poll(nanos) {
            let Task { client, number, .. } = tasks.remove(place);
            served.push((client, number, hold));
        }
    }
    served
}

/// See [`LimitHold::take_or_wait`].
fn take_or_wait<'a>(
    limits: impl IntoIterator<Item = &'a Arc<UseLimit>>,
    expected: &Use,
    started: Timestamp,
    now: Now,
    reply_wait: ReplyWait,
    waiting: Option<&mut Vec<usize>>,
) -> Result<LimitHold, NoRoom> {
    let mut hold = LimitHold::default();
    hold.take_or_wait(limits, expected, started, now, reply_wait, waiting).map(|()| hold)
}

#[test]
fn rate_serves_as_soon_as_there_is_room_and_in_order() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (limit, burst) = (random.u64(1..20), random.u64(1..5));
        let limit_of = requests(limit, burst);
        let count = 60;
        let mut tasks: Vec<_> =
            (0..count).map(|number| Task::new(&limit_of, random.u64(..3), number, 1)).collect();
        let mut of_client: Vec<VecDeque<usize>> = vec![VecDeque::new(); 3];
        tasks.iter().for_each(|task| of_client[task.client as usize].push_back(task.number));
        let (mut nanos, mut total) = (0, 0);
        while !tasks.is_empty() {
            // Some leave. One of them may have the timer.
            if random.u8(..10) == 0 {
                let left = tasks.remove(random.usize(..tasks.len()));
                of_client[left.client as usize].retain(|number| *number != left.number);
            }
            for (client, number, hold) in settle(&mut tasks, nanos) {
                assert_eq!(of_client[client as usize].pop_front(), Some(number), "seed {seed}");
                total += 1;
                // A request counts once it has ended.
                let mut whole = LimitHold::take([], &one(), Timestamp::UNIX_EPOCH, now(nanos)).unwrap();
                whole.join(hold);
                whole.settle(&one(), now(nanos));
            }
            let filled = u128::from(burst) + u128::from(nanos) * u128::from(limit) / u128::from(SECOND);
            assert!(tasks.is_empty() || total == filled, "seed {seed}: {total} of {filled} at {nanos}");
            nanos = tasks.iter().map(|task| task.waiting.wake_at()).min().unwrap_or(nanos);
        }
        assert!(nanos < LONGEST && limit_of.waiting() == 0, "seed {seed}");
    }
}

#[test]
fn timer_is_that_of_the_turn_for_requests_of_any_size() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (limit, burst) = (random.u64(1..20), random.u64(1..30));
        let limit_of = requests(limit, burst);
        let (mut tasks, mut nanos) = (Vec::<Task>::new(), 0);
        for number in 0..60 {
            match random.u8(..6) {
                0 if !tasks.is_empty() => drop(tasks.remove(random.usize(..tasks.len()))),
                0..=3 => {
                    tasks.push(Task::new(&limit_of, random.u64(..3), number, random.u64(1..=burst + 2)));
                }
                _ => nanos = tasks.iter().map(|task| task.waiting.wake_at()).min().unwrap_or(nanos),
            }
            // The end of a request may give places to others.
            let mut served = settle(&mut tasks, nanos);
            while let Some((.., hold)) = served.pop() {
                let mut whole = LimitHold::take([], &one(), Timestamp::UNIX_EPOCH, now(nanos)).unwrap();
                whole.join(hold);
                whole.settle(&Use { requests: random.u64(..burst), ..one() }, now(nanos));
                served.extend(settle(&mut tasks, nanos));
            }
            // All look again, and find neither a place nor an earlier time.
            let earliest = tasks.iter().map(|task| task.waiting.wake_at()).min();
            assert!(tasks.iter_mut().all(|task| task.poll(nanos).is_none()), "seed {seed}: room is idle");
            let true_time = tasks.iter().map(|task| task.waiting.wake_at()).min();
            assert_eq!(earliest, true_time, "seed {seed} at {nanos}");
        }
    }
}

#[test]
fn request_whose_time_is_over_does_not_overtake_a_large_one() {
    let limit = requests(1, 5);
    LimitHold::take([&limit], &Use { requests: 5, ..one() }, Timestamp::UNIX_EPOCH, now(0))
        .unwrap()
        .settle(&Use { requests: 5, ..one() }, now(0));
    let mut tasks = vec![Task::new(&limit, 1, 0, 5)];
    assert!(settle(&mut tasks, 0).is_empty());
    // Nothing is given back, so that the second one has no room in time.
    for nanos in [0, 2 * SECOND] {
        let mut small = Task::until(&limit, 1, 1, 1, SECOND);
        let end = small.poll_end(nanos);
        assert!(matches!(end, Poll::Ready(WaitEnd::Refused(_))), "{end:?}");
    }
    assert!(settle(&mut tasks, 5 * SECOND - 1).is_empty());
    assert_eq!(settle(&mut tasks, 5 * SECOND).len(), 1);
}

#[test]
fn limit_that_no_longer_waits_releases_its_queue() {
    for at_limit in [AtLimit::Warn, AtLimit::Refuse, AtLimit::Cut] {
        let limit = requests(1, 1);
        let _running = LimitHold::take([&limit], &one(), Timestamp::UNIX_EPOCH, now(0)).unwrap();
        let mut tasks: Vec<_> = (0..3).map(|number| Task::new(&limit, 1, number, 1)).collect();
        assert!(settle(&mut tasks, 0).is_empty());
        let bound = limit.state().bound.clone();
        let (quantity, filter) = (limit.quantity(), limit.filter().clone());
        limit.change(&LimitSpec { quantity, bound, at_limit, filter, unpriced: Unpriced::Refuse }, now(0));
        let ends: Vec<_> = tasks.iter_mut().map(|task| task.poll_end(0)).collect();
        let passes = |end: &Poll<WaitEnd<LimitWant>>| match end {
            Poll::Ready(WaitEnd::Served(_, step)) => step.is_ok(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            ends.iter().filter(|end| passes(end)).count(),
            if at_limit == AtLimit::Warn { 3 } else { 0 }
        );
        assert_eq!(limit.waiting(), 0);
    }
}

fn one() -> Use {
    Use { requests: 1, ..Default::default() }
}

#[test]
fn places_of_running_requests_are_never_idle_while_one_waits() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let most = random.u64(1..5);
        let limit = waiting_limit(Quantity::Concurrent, LimitBound::Concurrent(most.into()));
        let (mut tasks, mut running) = (Vec::new(), Vec::new());
        for number in 0..300 {
            match random.u8(..3) {
                0 => tasks.push(Task::new(&limit, random.u64(..3), number, 1)),
                1 if !running.is_empty() => drop(running.swap_remove(random.usize(..running.len()))),
                2 if !tasks.is_empty() => drop(tasks.swap_remove(random.usize(..tasks.len()))),
                _ => {}
            }
            running.extend(settle(&mut tasks, 0).into_iter().map(|(.., hold)| hold));
            assert!(running.len() as u64 <= most, "seed {seed}");
            assert!(tasks.is_empty() || running.len() as u64 == most, "seed {seed}: a place is idle");
            assert_eq!(limit.waiting(), tasks.len());
        }
    }
}

#[test]
fn new_request_does_not_overtake_unless_it_uses_nothing() {
    let limit = requests(1, 5);
    let mut large = vec![Task::new(&limit, 1, 0, 5)];
    let hold = LimitHold::take([&limit], &one(), Timestamp::UNIX_EPOCH, now(0)).unwrap_err();
    assert_eq!(hold.room_from, RoomFrom::AnEnd, "a request waits, though there is room");
    assert!(LimitHold::take([&limit], &Default::default(), Timestamp::UNIX_EPOCH, now(0)).is_ok());
    let served = settle(&mut large, 0);
    assert_eq!(served.len(), 1);
    assert_eq!(limit.status(now(0)).used, Units(5));
    drop(served);
    assert_eq!(limit.status(now(0)).used, Units(0), "a place that is not used is given back");
}

#[test]
fn request_that_has_to_wait_holds_the_limits_that_do_not_wait() {
    let (rate, running) =
        (requests(1, 1), waiting_limit(Quantity::Concurrent, LimitBound::Concurrent(Units(3))));
    let refusing = Arc::new(UseLimit::new(
        LimitSpec {
            quantity: Quantity::Concurrent,
            bound: LimitBound::Concurrent(Units(3)),
            at_limit: AtLimit::Refuse,
            filter: LimitFilter::default(),
            unpriced: Unpriced::Refuse,
        },
        now(0),
    ));
    // The request is expected to use no tokens.
    let rate_of_tokens = LimitBound::Rate(BucketRate { limit: Units(1), period: SECOND, burst: Units(1) });
    let tokens = waiting_limit(Quantity::Tokens(Weights::Reported), rate_of_tokens);
    let _waiting = Task::new(&tokens, 1, 0, 1);
    let limits = [&running, &refusing, &rate, &tokens];
    let take = |waiting: &mut Vec<usize>| {
        take_or_wait(limits, &one(), Timestamp::UNIX_EPOCH, now(0), ReplyWait::Never, Some(waiting)).unwrap()
    };
    let mut waiting = Vec::new();
    let first = take(&mut waiting);
    assert!(waiting.is_empty());
    let second = take(&mut waiting);
    assert_eq!(waiting, [0, 2], "both are waited for, in the order of the caller");
    let held = limits.map(|limit| limit.status(now(0)).held);
    assert_eq!(held, [Units(1), Units(2), Units(1), Units(0)]);
    drop((first, second));
    assert_eq!(limits.map(|limit| limit.status(now(0)).held), [Units(0); 4]);
    assert!(limits.iter().all(|limit| limit.exceeded() == 0));
}

#[test]
fn full_queue_refuses_the_newest_request() {
    let limit = waiting_limit(Quantity::Concurrent, LimitBound::Concurrent(Units(1)));
    let _running = LimitHold::take([&limit], &one(), Timestamp::UNIX_EPOCH, now(0)).unwrap();
    let mut tasks: Vec<_> = (0..=MOST_WAITING).map(|number| Task::new(&limit, 1, number, 1)).collect();
    let mut last = tasks.pop().unwrap();
    let polled = last.waiting.poll(&mut Context::from_waker(Waker::noop()), 0, 0);
    let Poll::Ready(WaitEnd::Refused(refused)) = polled else { panic!("{polled:?}") };
    assert_eq!(refused.room_from(now(0)), RoomFrom::AnEnd);
    assert_eq!(limit.waiting(), MOST_WAITING);
}

#[test]
fn turn_of_a_session_does_not_overtake_those_that_wait() {
    let limit = requests(1, 10);
    let turns = |number| Use { requests: number, ..Use::default() };
    let mut session = LimitHold::take([&limit], &turns(1), Timestamp::UNIX_EPOCH, now(0)).unwrap();
    let waiting = Task::new(&limit, 1, 0, 10);
    let refused = session.begin_turn(&turns(2), Timestamp::UNIX_EPOCH, now(0), ReplyWait::Never).unwrap_err();
    assert_eq!((refused.want, refused.room_from), (Units(1), RoomFrom::AnEnd));
    drop(waiting);
    assert_eq!(session.begin_turn(&turns(2), Timestamp::UNIX_EPOCH, now(0), ReplyWait::Never), Ok(0));
}

#[test]
fn limit_that_is_gone_lets_turns_of_sessions_pass() {
    for at_limit in [AtLimit::Refuse, AtLimit::Cut, AtLimit::Wait(LONGEST)] {
        let rate = BucketRate { limit: Units(1), period: SECOND, burst: Units(1) };
        let (quantity, bound) = (Quantity::Requests, LimitBound::Rate(rate));
        let (filter, unpriced) = (LimitFilter::default(), Unpriced::Refuse);
        let spec = LimitSpec { quantity, bound, at_limit, filter, unpriced };
        let limit = Arc::new(UseLimit::new(spec, now(0)));
        let turns = |number| Use { requests: number, ..Use::default() };
        let mut session = LimitHold::take([&limit], &turns(1), Timestamp::UNIX_EPOCH, now(0)).unwrap();
        assert!(session.begin_turn(&turns(2), Timestamp::UNIX_EPOCH, now(0), ReplyWait::Never).is_err());
        limit.retire();
        assert!(
            session.begin_turn(&turns(2), Timestamp::UNIX_EPOCH, now(0), ReplyWait::Never).is_ok(),
            "{at_limit:?}"
        );
    }
}
