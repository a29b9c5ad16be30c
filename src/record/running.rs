//! Lists running streams for the dashboard.
//!
//! Each worker has its own [`WorkerRequests`] with a fixed number of places. Adding and removing a stream
//! costs one atomic store each, an event two relaxed ones, and readers take no lock that a worker
//! could wait for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use uuid::Uuid;

use super::ModelName;

/// The largest number of streams of one worker that are listed, at 8 bytes each. Further ones run
/// unlisted and are only counted.
const PLACES: usize = 4096;

/// The running streams of all workers. Clones are the same list.
#[derive(Clone, Debug)]
pub struct ActiveRequests(Arc<[Arc<Places>]>);

#[derive(Debug)]
struct Places {
    streams: Box<[ArcSwapOption<Stream>]>,
    /// The number of places that were ever taken. They are the first ones.
    used: AtomicUsize,
    /// Streams without a place.
    unlisted: AtomicUsize,
}

impl ActiveRequests {
    /// Creates the list, with places for each worker.
    pub fn new(workers: usize) -> Self {
        let places = |_| {
            Arc::new(Places {
                streams: (0..PLACES).map(|_| ArcSwapOption::empty()).collect(),
                used: AtomicUsize::new(0),
                unlisted: AtomicUsize::new(0),
            })
        };
        Self((0..workers).map(places).collect())
    }

    /// The part of a worker. Must be called once per worker, since only one part may write to the
    /// places. A worker with an unknown number gets a part without readers.
    pub fn of_worker(&self, worker: usize) -> WorkerRequests {
        let places = self.0.get(worker).cloned().unwrap_or_else(|| Arc::clone(&Self::new(1).0[0]));
        WorkerRequests(Rc::new(Own { places, free: RefCell::default(), next: Cell::new(0) }))
    }

    /// The running streams, the oldest first, and the number of streams that are not listed.
    pub fn list(&self) -> (Vec<Arc<Stream>>, usize) {
        let mut streams = Vec::new();
        for places in &*self.0 {
            let used = places.used.load(Ordering::Acquire);
            streams.extend(places.streams[..used].iter().filter_map(ArcSwapOption::load_full));
        }
        streams.sort_by_key(|stream| (stream.started, stream.id));
        (streams, self.unlisted())
    }

    /// The number of running streams.
    pub fn count(&self) -> usize {
        let listed = |places: &Arc<Places>| {
            let used = places.used.load(Ordering::Acquire);
            places.streams[..used].iter().filter(|place| place.load().is_some()).count()
        };
        self.0.iter().map(listed).sum::<usize>() + self.unlisted()
    }

    fn unlisted(&self) -> usize {
        self.0.iter().map(|places| places.unlisted.load(Ordering::Relaxed)).sum()
    }
}

/// The places of one worker's streams. Clones share them.
#[derive(Clone, Debug)]
pub struct WorkerRequests(Rc<Own>);

#[derive(Debug)]
struct Own {
    places: Arc<Places>,
    /// Places that are free again; the last one is taken first.
    free: RefCell<Vec<usize>>,
    /// The first place that was never taken.
    next: Cell<usize>,
}

impl WorkerRequests {
    /// Lists a stream until the returned value is dropped.
    pub(super) fn register(&self, stream: Stream) -> Registered {
        let Own { places, free, next } = &*self.0;
        let place = free.borrow_mut().pop().or_else(|| {
            let fresh = next.get();
            (fresh < PLACES).then(|| next.replace(fresh + 1))
        });
        let stream = Arc::new(stream);
        match place {
            Some(place) => {
                places.streams[place].store(Some(Arc::clone(&stream)));
                places.used.store(next.get(), Ordering::Release);
            }
            None => {
                places.unlisted.fetch_add(1, Ordering::Relaxed);
            }
        }
        Registered { stream, place, requests: self.clone() }
    }
}

/// A listed stream. Dropping it removes the stream from the list.
#[derive(Debug)]
pub(super) struct Registered {
    stream: Arc<Stream>,
    place: Option<usize>,
    requests: WorkerRequests,
}

impl Registered {
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Own { places, free, .. } = &*self.requests.0;
        match self.place {
            Some(place) => {
                places.streams[place].store(None);
                free.borrow_mut().push(place);
            }
            None => {
                places.unlisted.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// A running stream: the values known at its start, and its progress.
#[derive(Debug)]
pub struct Stream {
    /// The id that its record will have.
    pub id: Uuid,
    /// The time when the request's head had arrived.
    pub started_at: Timestamp,
    /// The start on the monotonic clock.
    pub started: Instant,
    /// The client.
    pub client: Arc<str>,
    /// The end user that the request named.
    pub user: Option<Box<str>>,
    /// The upstream of the current attempt.
    pub upstream: Option<Arc<str>>,
    /// The requested model.
    pub model: Option<ModelName>,
    pub(super) progress: Progress,
}

/// The values that change while a stream runs.
#[derive(Debug, Default)]
pub(super) struct Progress {
    events: AtomicU64,
    /// The reported count plus one; 0 if none was reported.
    output_tokens: AtomicU64,
    /// Microseconds; 0 before the first token.
    first_token: AtomicU64,
}

impl Progress {
    pub(super) fn set(&self, events: u64, output_tokens: Option<u64>) {
        self.events.store(events, Ordering::Relaxed);
        if let Some(tokens) = output_tokens {
            self.output_tokens.store(tokens.saturating_add(1), Ordering::Relaxed);
        }
    }

    pub(super) fn first_token(&self, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX).max(1);
        self.first_token.store(micros, Ordering::Relaxed);
    }
}

impl Stream {
    /// Server-sent events that have passed.
    pub fn events(&self) -> u64 {
        self.progress.events.load(Ordering::Relaxed)
    }

    /// The output tokens that the upstream has reported so far, if any.
    pub fn output_tokens(&self) -> Option<u64> {
        self.progress.output_tokens.load(Ordering::Relaxed).checked_sub(1)
    }

    /// The time to the first token. `None` before it.
    pub fn time_to_first_token(&self) -> Option<Duration> {
        let micros = self.progress.first_token.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: u128) -> Stream {
        Stream {
            id: Uuid::from_u128(number),
            started_at: Timestamp::UNIX_EPOCH,
            started: Instant::now(),
            client: "a".into(),
            user: None,
            upstream: None,
            model: None,
            progress: Progress::default(),
        }
    }

    fn ids(active: &ActiveRequests) -> Vec<u128> {
        active.list().0.iter().map(|stream| stream.id.as_u128()).collect()
    }

    #[test]
    fn stream_is_listed_from_its_registration_until_its_drop() {
        let active = ActiveRequests::new(2);
        let (one, other) = (active.of_worker(0), active.of_worker(1));
        let first = one.register(stream(1));
        let second = other.register(stream(2));
        let third = one.register(stream(3));
        assert_eq!(ids(&active), [1, 2, 3], "in the order in which they began");
        drop(first);
        assert_eq!(ids(&active), [2, 3]);
        let fourth = one.register(stream(4));
        drop((second, third));
        assert_eq!(ids(&active), [4]);
        drop(fourth);
        assert!(active.list().0.is_empty());
    }

    #[test]
    fn request_without_a_place_is_counted_while_it_runs() {
        let active = ActiveRequests::new(1);
        let requests = active.of_worker(0);
        let shown: Vec<_> = (0..PLACES as u128 + 3).map(|number| requests.register(stream(number))).collect();
        let (listed, more) = active.list();
        assert_eq!((listed.len(), more), (PLACES, 3));
        drop(shown);
        let (listed, more) = active.list();
        assert_eq!((listed.len(), more), (0, 0));
    }

    #[test]
    fn progress_is_seen_while_it_runs() {
        let active = ActiveRequests::new(1);
        let shown = active.of_worker(0).register(stream(1));
        let seen = |active: &ActiveRequests| {
            let stream = Arc::clone(&active.list().0[0]);
            (stream.events(), stream.output_tokens(), stream.time_to_first_token())
        };
        assert_eq!(seen(&active), (0, None, None));
        shown.stream().progress.set(3, None);
        shown.stream().progress.first_token(Duration::from_millis(2));
        assert_eq!(seen(&active), (3, None, Some(Duration::from_millis(2))));
        shown.stream().progress.set(4, Some(0));
        assert_eq!(seen(&active).1, Some(0));
    }

    #[test]
    fn listing_beside_a_busy_worker_never_sees_half_a_stream() {
        let active = ActiveRequests::new(1);
        std::thread::scope(|scope| {
            let worker = scope.spawn({
                let active = active.clone();
                move || {
                    let requests = active.of_worker(0);
                    for round in 0..2_000 {
                        let shown: Vec<_> =
                            (0..5).map(|n| requests.register(stream(round * 5 + n))).collect();
                        drop(shown);
                    }
                }
            });
            while !worker.is_finished() {
                let (listed, _) = active.list();
                assert!(listed.len() <= 5 && listed.iter().all(|stream| &*stream.client == "a"));
            }
        });
    }
}
