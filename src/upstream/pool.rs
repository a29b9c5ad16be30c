//! Idle connections of one worker to one upstream.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::Scratch;
use super::stream::Stream;
use crate::config::PoolLimits;

/// Idle connections, the most recently used at the back. `take` pops from the back: that connection
/// is the least likely to have been closed by the upstream, and those at the front expire when the
/// load falls.
#[derive(Debug)]
pub(super) struct Pool {
    limits: PoolLimits,
    idle: RefCell<VecDeque<(Stream, Instant)>>,
    sweeping: Cell<bool>,
}

impl Pool {
    pub(super) fn new(limits: PoolLimits) -> Rc<Self> {
        Rc::new(Self { limits, idle: RefCell::default(), sweeping: Cell::new(false) })
    }

    /// The most recently used connection that is still open, not expired, and made with the current
    /// certificates. `now` may be slightly in the past.
    pub(super) fn take(&self, generation: u64, now: Instant, scratch: &Scratch) -> Option<Stream> {
        loop {
            let (mut stream, since) = self.idle.borrow_mut().pop_back()?;
            let is_current = stream.generation() == generation
                && stream.expires().is_none_or(|expires| now < expires)
                && now.saturating_duration_since(since) < self.limits.idle_timeout;
            if is_current && stream.poll_still_idle(&mut scratch.borrow()) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection without an exchange and without unread bytes. Closes it if it was made
    /// with other certificates than the current ones. `now` is the end of its last use.
    pub(super) fn put(self: &Rc<Self>, stream: Stream, generation: u64, now: Instant) {
        if self.limits.max_idle == 0 || stream.generation() != generation {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.limits.max_idle {
            idle.pop_front();
        }
        idle.push_back((stream, now));
        drop(idle);
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
    }

    /// Closes expired connections; returns the time until the next expires, `None` if none is left.
    fn close_old(&self) -> Option<Duration> {
        let mut idle = self.idle.borrow_mut();
        while let Some((_, since)) = idle.front() {
            let age = since.elapsed();
            if age < self.limits.idle_timeout {
                return Some(self.limits.idle_timeout - age);
            }
            idle.pop_front();
        }
        idle.shrink_to_fit();
        self.sweeping.set(false);
        None
    }
}

/// Runs while the pool holds a connection, so that an idle process has no timer.
async fn sweep(pool: Weak<Pool>) {
    while let Some(wait) = pool.upgrade().and_then(|pool| pool.close_old()) {
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use tokio::task::LocalSet;

    use super::*;
    use crate::upstream::stream::Wire;

    fn pair() -> (Stream, TcpStream) {
        pair_of(0)
    }

    fn pair_of(generation: u64) -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        let theirs = listener.accept().unwrap().0;
        let wire = Wire::Tcp(tokio::net::TcpStream::from_std(ours).unwrap());
        (Stream::new(wire, false, generation), theirs)
    }

    /// Waits until the most recently used connection is readable (bytes or end of file).
    async fn readable(pool: &Pool) {
        let (mut stream, since) = pool.idle.borrow_mut().pop_back().unwrap();
        // Reads one byte only, so that bytes are left.
        std::future::poll_fn(|cx| stream.poll_read(cx, &mut [0])).await.unwrap();
        pool.idle.borrow_mut().push_back((stream, since));
    }

    /// Asserts that the connection is the one to this peer, by closing it.
    fn assert_is_with(stream: Option<Stream>, peer: &mut TcpStream) {
        drop(stream.expect("a connection"));
        assert_is_closed(peer);
    }

    fn assert_is_closed(peer: &mut TcpStream) {
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(peer.read(&mut [0]).expect("this one is closed"), 0);
    }

    const LIMITS: PoolLimits = PoolLimits { idle_timeout: Duration::from_secs(60), max_idle: 2 };

    #[tokio::test]
    async fn take_prefers_most_recent_and_put_drops_oldest() {
        LocalSet::new()
            .run_until(async {
                let pool = Pool::new(LIMITS);
                let scratch = Scratch::default();
                let (pairs, mut peers): (Vec<_>, Vec<_>) = (0..3).map(|_| pair()).unzip();
                pairs.into_iter().for_each(|stream| pool.put(stream, 0, Instant::now()));
                assert_is_with(pool.take(0, Instant::now(), &scratch), &mut peers[2]);
                assert_is_with(pool.take(0, Instant::now(), &scratch), &mut peers[1]);
                assert!(pool.take(0, Instant::now(), &scratch).is_none(), "max_idle is 2");
            })
            .await;
    }

    #[tokio::test]
    async fn take_refuses_connection_that_was_closed_or_written_to() {
        LocalSet::new()
            .run_until(async {
                let scratch = Scratch::default();
                for close in [true, false] {
                    let pool = Pool::new(LIMITS);
                    let (ours, mut theirs) = pair();
                    pool.put(ours, 0, Instant::now());
                    if close {
                        drop(theirs);
                        readable(&pool).await;
                    } else {
                        theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").unwrap();
                        readable(&pool).await;
                    }
                    assert!(pool.take(0, Instant::now(), &scratch).is_none(), "closed: {close}");
                }
            })
            .await;
    }

    #[tokio::test]
    async fn take_refuses_connection_with_bytes_that_tokio_has_not_seen() {
        LocalSet::new()
            .run_until(async {
                let pool = Pool::new(LIMITS);
                let (ours, mut theirs) = pair();
                pool.put(ours, 0, Instant::now());
                readable_later(&pool).await;
                // The driver does not run between this write and `take`.
                theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                assert!(pool.take(0, Instant::now(), &Scratch::default()).is_none());
            })
            .await;
    }

    /// Makes tokio clear the readiness of the most recently used connection.
    async fn readable_later(pool: &Pool) {
        let (mut stream, since) = pool.idle.borrow_mut().pop_back().unwrap();
        std::future::poll_fn(|cx| {
            assert!(stream.poll_read(cx, &mut [0]).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        pool.idle.borrow_mut().push_back((stream, since));
    }

    #[tokio::test]
    async fn connection_of_earlier_certificates_is_not_kept_or_taken() {
        LocalSet::new()
            .run_until(async {
                let pool = Pool::new(LIMITS);
                let scratch = Scratch::default();
                let [(old, mut old_peer), (late, mut late_peer)] = [pair(), pair()];
                pool.put(old, 0, Instant::now());
                pool.put(late, 1, Instant::now());
                assert_is_closed(&mut late_peer);
                assert!(pool.take(1, Instant::now(), &scratch).is_none());
                assert_is_closed(&mut old_peer);
                let (present, mut peer) = pair_of(1);
                pool.put(present, 1, Instant::now());
                assert_is_with(pool.take(1, Instant::now(), &scratch), &mut peer);
            })
            .await;
    }

    #[tokio::test]
    async fn idle_connections_are_closed_after_idle_timeout() {
        LocalSet::new()
            .run_until(async {
                let limits = PoolLimits { idle_timeout: Duration::ZERO, max_idle: 2 };
                let pool = Pool::new(limits);
                let (ours, _theirs) = pair();
                pool.put(ours, 0, Instant::now());
                while pool.sweeping.get() {
                    tokio::task::yield_now().await;
                }
                assert!(pool.idle.borrow().is_empty());
            })
            .await;
    }
}
