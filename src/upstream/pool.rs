//! Idle connections of one worker to one upstream.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::Scratch;
use super::stream::Stream;

/// How many connections are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// A connection that nobody used for so long is closed.
    pub idle_timeout: Duration,
    /// The most that are kept, per worker.
    pub max_idle: usize,
}

/// Idle connections, the one used last at the back. It is taken first: it is the least likely to have been closed by the
/// upstream, and those at the front grow old and go when the load is over.
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

    /// The connection that was used last and is still open.
    pub(super) fn take(&self, scratch: &Scratch) -> Option<Stream> {
        loop {
            let (mut stream, since) = self.idle.borrow_mut().pop_back()?;
            if since.elapsed() < self.limits.idle_timeout && stream.is_quiet(&mut scratch.borrow()) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection on which nothing is under way and nothing is left to read.
    pub(super) fn put(self: &Rc<Self>, stream: Stream) {
        if self.limits.max_idle == 0 {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.limits.max_idle {
            idle.pop_front();
        }
        idle.push_back((stream, Instant::now()));
        drop(idle);
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
    }

    /// Closes what is too old; returns how long the next has, or `None` if none is left.
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

/// Runs while the pool holds a connection; an idle proxy has no timer.
async fn sweep(pool: Weak<Pool>) {
    while let Some(wait) = pool.upgrade().and_then(|pool| pool.close_old()) {
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use tokio::task::LocalSet;

    use super::*;

    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        let theirs = listener.accept().unwrap().0;
        (Stream::Tcp(tokio::net::TcpStream::from_std(ours).unwrap()), theirs)
    }

    fn port(stream: &Stream) -> u16 {
        match stream {
            Stream::Tcp(stream) => stream.local_addr().unwrap().port(),
            Stream::Tls(_) | Stream::TlsInTls(_) => unreachable!("the tests use plain connections"),
        }
    }

    /// Waits until there is something to be read on the connection used last, be it its end.
    async fn readable(pool: &Pool) {
        let (mut stream, since) = pool.idle.borrow_mut().pop_back().unwrap();
        if let Stream::Tcp(stream) = &mut stream {
            stream.readable().await.unwrap();
        }
        pool.idle.borrow_mut().push_back((stream, since));
    }

    const LIMITS: PoolLimits = PoolLimits { idle_timeout: Duration::from_secs(60), max_idle: 2 };

    #[tokio::test]
    async fn the_connection_used_last_is_taken_first_and_the_oldest_gives_way() {
        LocalSet::new()
            .run_until(async {
                let pool = Pool::new(LIMITS);
                let scratch = Scratch::default();
                let (pairs, _peers): (Vec<_>, Vec<_>) = (0..3).map(|_| pair()).unzip();
                let ports: Vec<_> = pairs.iter().map(port).collect();
                pairs.into_iter().for_each(|stream| pool.put(stream));
                assert_eq!(port(&pool.take(&scratch).unwrap()), ports[2]);
                assert_eq!(port(&pool.take(&scratch).unwrap()), ports[1]);
                assert!(pool.take(&scratch).is_none(), "max_idle is 2");
            })
            .await;
    }

    #[tokio::test]
    async fn a_connection_that_the_upstream_closed_or_wrote_to_is_not_taken() {
        LocalSet::new()
            .run_until(async {
                let scratch = Scratch::default();
                for close in [true, false] {
                    let pool = Pool::new(LIMITS);
                    let (ours, mut theirs) = pair();
                    pool.put(ours);
                    if close {
                        drop(theirs);
                        readable(&pool).await;
                    } else {
                        theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").unwrap();
                        readable(&pool).await;
                    }
                    assert!(pool.take(&scratch).is_none(), "closed: {close}");
                }
            })
            .await;
    }

    #[tokio::test]
    async fn idle_connections_are_closed_when_their_time_is_over() {
        LocalSet::new()
            .run_until(async {
                let limits = PoolLimits { idle_timeout: Duration::ZERO, max_idle: 2 };
                let pool = Pool::new(limits);
                let (ours, _theirs) = pair();
                pool.put(ours);
                while pool.sweeping.get() {
                    tokio::task::yield_now().await;
                }
                assert!(pool.idle.borrow().is_empty());
            })
            .await;
    }
}
