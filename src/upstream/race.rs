//! Connects to the first of a host's addresses that accepts (RFC 8305, "Happy Eyeballs").
//!
//! * Addresses are tried in the system's order (RFC 6724) with families interleaved (section 4), so
//!   that a family without a route costs one attempt.
//! * The next attempt begins after [`DELAY`] while earlier ones continue, or at once when one fails
//!   (section 5).
//! * An address that won although others come before it is tried first for [`MEMORY`]: an address
//!   that drops SYNs delays one connection, not each.
//!
//! A first address that wins is not remembered, so that round-robin DNS keeps rotating. The caller
//! bounds the whole race. Cancel safe: dropping the future closes all attempts.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::sleep;

/// The head start of an attempt before the next one runs beside it (recommended by RFC 8305
/// section 5).
const DELAY: Duration = Duration::from_millis(250);

/// The time for which a winner is tried first (RFC 6555 section 4.2; RFC 8305 gives no time).
const MEMORY: Duration = Duration::from_secs(10 * 60);

/// The largest number of attempts at the same time, since each is an open file. The oldest is
/// dropped for the next address, after one second at least.
const AT_ONCE: usize = 4;

/// The address of an upstream, or of its forward proxy, that won although others came before it.
#[derive(Debug, Default)]
pub struct Winner(Mutex<Option<(SocketAddr, Instant)>>);

/// A connection, and the duration of its own attempt.
type Connected = (TcpStream, Duration);

/// Connects to one of the addresses; remembers a winner that was not the first of them.
///
/// # Errors
/// Fails with the last failure, if every address has failed.
pub(super) async fn connect(addresses: Vec<SocketAddr>, winner: &Winner) -> io::Result<Connected> {
    if let [only] = addresses[..] {
        return attempt(only).await;
    }
    let ordered = ordered(addresses, winner.get(Instant::now()));
    let (address, connected) = Box::pin(race(&ordered)).await?;
    if ordered.first() != Some(&address) {
        tracing::debug!(%address, "this address of the upstream accepted a connection before the preferred ones");
        winner.note(address, Instant::now());
    }
    Ok(connected)
}

impl Winner {
    fn get(&self, now: Instant) -> Option<SocketAddr> {
        let won = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        won.filter(|(_, at)| now.saturating_duration_since(*at) < MEMORY).map(|(address, _)| address)
    }

    fn note(&self, address: SocketAddr, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((address, now));
    }
}

/// The winner first, if the name still has that address; then both families in turn, beginning with
/// the family of the first address.
pub(super) fn ordered(addresses: Vec<SocketAddr>, winner: Option<SocketAddr>) -> Vec<SocketAddr> {
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = {
        let is_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
        addresses.iter().copied().partition(|address| address.is_ipv6() == is_first)
    };
    let mut ordered: Vec<_> = winner.filter(|winner| addresses.contains(winner)).into_iter().collect();
    while !(first.is_empty() && second.is_empty()) {
        for family in [&mut first, &mut second] {
            ordered.extend(family.pop_front().filter(|address| Some(*address) != winner));
        }
    }
    ordered
}

/// An attempt at one address.
type Attempt = (SocketAddr, Pin<Box<dyn Future<Output = io::Result<Connected>>>>);

async fn race(addresses: &[SocketAddr]) -> io::Result<(SocketAddr, Connected)> {
    let mut waiting = addresses.iter().copied();
    let mut running: VecDeque<Attempt> = VecDeque::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            if running.len() == AT_ONCE {
                running.pop_front();
            }
            running.push_back((address, Box::pin(attempt(address))));
        } else if running.is_empty() {
            return Err(failed);
        }
        let mut is_due = pin!(async {
            match waiting.len() {
                0 => std::future::pending().await,
                _ => sleep(DELAY).await,
            }
        });
        let ended = poll_fn(|cx| match poll_any(&mut running, cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending => is_due.as_mut().poll(cx).map(|()| None),
        });
        match ended.await {
            Some((address, Ok(connected))) => return Ok((address, connected)),
            Some((_, Err(error))) => failed = error,
            None => {}
        }
    }
}

/// Removes and returns the first attempt that has ended.
fn poll_any(
    running: &mut VecDeque<Attempt>,
    cx: &mut Context<'_>,
) -> Poll<(SocketAddr, io::Result<Connected>)> {
    for index in 0..running.len() {
        let (address, attempt) = &mut running[index];
        if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
            let address = *address;
            running.remove(index);
            return Poll::Ready((address, result));
        }
    }
    Poll::Pending
}

/// Measures one attempt alone, without the time of those that failed before it.
async fn attempt(address: SocketAddr) -> io::Result<Connected> {
    let begun = Instant::now();
    let tcp = TcpStream::connect(address).await?;
    Ok((tcp, begun.elapsed()))
}

#[cfg(test)]
mod tests;
