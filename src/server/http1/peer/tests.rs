use std::io::Write;
use std::time::{Duration, Instant};

use http_body::Body;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::server::Limits;
use crate::server::conn_state::ConnCommand;
use crate::support::memory::{Memory, WorkerMemory};

const LIMITS: Limits = Limits {
    header_timeout: Duration::from_secs(30),
    keep_alive_timeout: Duration::from_secs(75),
    write_timeout: Some(Duration::from_secs(300)),
};

/// A time after every limit except those of an idle connection.
fn later() -> Instant {
    Instant::now() + LIMITS.header_timeout
}

/// Runs `test` with a connection of a client, and the client's end.
fn with_peer<T: Future<Output = ()>>(test: impl FnOnce(Peer<TcpStream>, std::net::TcpStream) -> T) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (io, _) = listener.accept().await.unwrap();
        let memory = Memory::default();
        let state = ConnState::new(Instant::now(), &Rc::new(WorkerMemory::new(memory.clone())));
        let peer = Peer::new(io, state, Rc::new(Buffers::new(memory)));
        test(peer, client).await;
    });
}

/// The available part of the client's request.
async fn request(peer: &mut Peer<TcpStream>) -> Http1RequestBody {
    loop {
        let mut buf = vec![0; 1024];
        let read = poll_fn(|cx| peer.poll_read(cx, &mut buf)).await.unwrap();
        if let Some((_, body)) = peer.head_in(&mut buf[..read]).unwrap() {
            return body;
        }
    }
}

#[test]
fn rest_of_a_discarded_body_is_not_the_next_head() {
    with_peer(|mut peer, mut client| async move {
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab").unwrap();
        let body = request(&mut peer).await;
        let running = peer.state.begin();
        client.write_all(b"cd").unwrap();
        peer.io.readable().await.unwrap();
        drop((body, running));
        assert!(poll_fn(|cx| Poll::Ready(peer.poll_discard_body(cx))).await.unwrap());
        peer.state.enforce_limits(later(), &LIMITS);
        assert_eq!(peer.state.command(), None, "no head is waited for");

        client.write_all(b"POST").unwrap();
        let mut head = [0; 8];
        let read = poll_fn(|cx| peer.poll_read(cx, &mut head)).await.unwrap();
        assert!(peer.head_in(&mut head[..read]).unwrap().is_none());
        peer.state.enforce_limits(later(), &LIMITS);
        assert_eq!(peer.state.command(), Some(ConnCommand::RefuseHead));
    });
}

#[test]
fn body_that_is_still_read_is_not_discarded() {
    with_peer(|mut peer, mut client| async move {
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab").unwrap();
        let mut body = request(&mut peer).await;
        client.write_all(b"cd").unwrap();
        peer.io.readable().await.unwrap();
        assert!(!poll_fn(|cx| Poll::Ready(peer.poll_discard_body(cx))).await.unwrap());
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "ab");
    });
}

#[test]
fn response_makes_100_continue_unnecessary() {
    with_peer(|mut peer, mut client| async move {
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n").unwrap();
        let mut body = request(&mut peer).await;
        peer.on_response_start();
        let polled = poll_fn(|cx| {
            let wanted = Pin::new(&mut body).poll_frame(cx).is_pending();
            Poll::Ready(wanted && peer.poll_client(cx).is_pending())
        });
        assert!(polled.await);
        drop((peer, body));
        assert_eq!(std::io::read_to_string(client).unwrap(), "");
    });
}

#[test]
fn pipelined_bytes_are_not_watched_once_they_are_read() {
    with_peer(|mut peer, mut client| async move {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        drop(request(&mut peer).await);
        client.write_all(b"GET /next HTTP/1.1\r\n\r\n").unwrap();
        peer.io.readable().await.unwrap();
        // Twice: the first poll only schedules another turn.
        for _ in 0..2 {
            assert!(poll_fn(|cx| Poll::Ready(peer.poll_client(cx).is_pending())).await);
        }
        assert!(matches!(peer.pipelined, Pipelined::Watched(_)));
        assert!(peer.head_in_unread().unwrap().is_some());
        assert!(matches!(peer.pipelined, Pipelined::Unneeded));
    });
}

#[test]
fn empty_write_keeps_the_stall_clock() {
    with_peer(|mut peer, _client| async move {
        let _ = peer.state.track_write(Poll::<()>::Pending);
        assert!(poll_fn(|cx| Poll::Ready(peer.poll_write(cx, b"", Bytes::new(), b"").is_ready())).await);
        peer.state.enforce_limits(Instant::now() + LIMITS.write_timeout.unwrap(), &LIMITS);
        assert_eq!(peer.state.command(), Some(ConnCommand::Drop));
    });
}

#[test]
fn lent_buffer_is_dropped_with_the_body() {
    with_peer(|mut peer, mut client| async move {
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n").unwrap();
        let mut body = request(&mut peer).await;
        let mut all = bytes::BytesMut::from(&b"before"[..]);
        assert!(poll_fn(|cx| Poll::Ready(body.poll_append(cx, &mut all).is_pending())).await);
        assert!(peer.body_reader.as_ref().unwrap().is_wanted());
        drop(body);
        assert!(!peer.body_reader.as_ref().unwrap().is_wanted());
        assert!(
            peer.body_reader.as_mut().unwrap().read_to_buffer(|_| unreachable!("it is not there")).is_none()
        );
    });
}
