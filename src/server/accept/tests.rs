use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Empty;

use super::*;
use crate::codec::head::ResponseHead;
use crate::record::error::Error;
use crate::server::http1::Connection;
use crate::server::{ClientRequest, ClientResponse, ResponseBody, Upgrade};
use crate::support::flow::{LimitCounts, StreamTiming};
use crate::support::memory::Memory;

impl ResponseBody for Empty<Bytes> {
    fn timing(&self) -> Option<&Rc<StreamTiming>> {
        None
    }

    fn abort(&mut self, _: String) {}

    fn defer_end(&mut self) {}

    fn on_sent(&mut self) {}

    fn stop(&mut self) {}

    fn take_upgrade(&mut self) -> Option<Upgrade> {
        None
    }
}

/// Never responds.
struct Silent;

impl Handler for Silent {
    type Body = Empty<Bytes>;

    async fn handle(self: Rc<Self>, _: ClientRequest, _: Option<SocketAddr>) -> ClientResponse<Self::Body> {
        std::future::pending().await
    }

    fn reject_head(&self, _: Error, _: Option<SocketAddr>) -> Vec<u8> {
        Vec::new()
    }

    fn reject(&self, _: ClientRequest, _: Error, _: Option<SocketAddr>) -> ClientResponse<Self::Body> {
        ClientResponse { head: ResponseHead::new(StatusCode::OK), body: Empty::new() }
    }

    async fn shutdown(&self) {}

    async fn drained(&self) {}
}

const SOON: Duration = Duration::from_secs(20);

const LIMITS: Limits = Limits { header_timeout: SOON, keep_alive_timeout: SOON, write_timeout: None };

/// A client's connection, and the server's side of it.
fn pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    (client, ours)
}

#[tokio::test]
async fn draining_worker_is_given_no_connection_and_closes_given_ones() {
    let local = tokio::task::LocalSet::new();
    let test = local.run_until(async {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let counts = Arc::<LimitCounts>::default();
        let (connections, memory) = (Arc::default(), Memory::default());
        let addresses = Arc::default();
        let capacity = Capacity { places: 9, grace: SOON, counts, connections, memory, addresses };
        let balance = Balance::new(1);
        let listener = Listener::for_workers(vec![socket.into()], 1, capacity, &balance).pop().unwrap();
        let (inbox, places) = (listener.outboxes[0].clone(), Arc::clone(&listener.places));
        let give = || {
            let (client, ours) = pair();
            let claim = (places.try_for_connection().unwrap(), balance.load(0), None);
            let address = client.local_addr().unwrap();
            (client, inbox.try_send((ours, Some(address), claim)))
        };
        // Its request runs until the end of the drain.
        let (mut busy, given) = give();
        given.unwrap();
        let stop = Stop::default();
        let running = Acceptor::new(listener, Rc::new(Silent), None, Rc::new(Cell::new(LIMITS)))
            .run(stop.clone(), Live::new(SOON * 9));
        let running = tokio::task::spawn_local(running);
        busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        while balance.loads() != [2] {
            tokio::task::yield_now().await;
        }
        let (mut waiting, given) = give();
        given.unwrap();
        stop.drain();
        let closed = tokio::task::spawn_blocking(move || waiting.read(&mut [0]));
        assert_eq!(closed.await.unwrap().expect("it is neither served nor closed"), 0);
        assert!(give().1.is_err(), "the other worker keeps it");
        stop.cut();
        assert_eq!(running.await.unwrap().unwrap(), Ended::Cut);
    });
    tokio::time::timeout(SOON * 2, test).await.expect("it hangs");
}

/// A connection from `pair`, and the client's end.
fn connection() -> (std::net::TcpStream, Connection<TcpStream, Silent>) {
    let (client, ours) = pair();
    let counts = Arc::<LimitCounts>::default();
    let memory = Rc::new(WorkerMemory::new(Memory::default()));
    let capacity = Capacity {
        places: 9,
        grace: SOON,
        counts,
        connections: Arc::default(),
        memory: Memory::default(),
        addresses: Arc::default(),
    };
    let context = WorkerContext {
        handler: Rc::new(Silent),
        tls: None,
        limits: Rc::new(Cell::new(LIMITS)),
        connections: Connections::default(),
        places: Arc::new(Places::new(capacity, 1)),
        balance: Balance::new(1),
        worker: 0,
        buffers: Rc::new(Buffers::new(Memory::default())),
        memory: Rc::clone(&memory),
        header_faults: HeaderFaults::default(),
    };
    let (ours, state) = (TcpStream::from_std(ours).unwrap(), ConnState::new(Instant::now(), &memory));
    (client, Connection::new(ours, None, state, Rc::new(context)))
}

async fn is_told(connection: &mut Connection<TcpStream, Silent>) -> bool {
    let mut told = pin!(connection.tell_protocol(None));
    poll_fn(|cx| Poll::Ready(told.as_mut().poll(cx).is_ready())).await
}

#[tokio::test]
async fn connection_without_a_byte_holds_no_buffer() {
    let (mut client, mut connection) = connection();
    assert!(!is_told(&mut connection).await);
    assert_eq!(connection.unread_capacity(), 0);
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(connection.tell_protocol(None).await.unwrap(), Some(false));
    assert!(connection.unread_capacity() < 64, "as much as was read");
}

#[tokio::test]
async fn protocol_is_told_from_a_preface_in_two_parts() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for split in 1..preface.len() {
        let (mut client, mut connection) = connection();
        client.write_all(&preface[..split]).unwrap();
        connection_reads(&mut connection).await;
        client.write_all(&preface[split..]).unwrap();
        assert_eq!(connection.tell_protocol(None).await.unwrap(), Some(true), "{split}");
        let (mut client, mut connection) = self::connection();
        client.write_all(&preface[..split]).unwrap();
        drop(client);
        assert_eq!(connection.tell_protocol(None).await.unwrap(), Some(false), "{split}");
    }
}

/// Polls until the first bytes are read.
async fn connection_reads(connection: &mut Connection<TcpStream, Silent>) {
    while connection.unread_capacity() == 0 {
        assert!(!is_told(connection).await);
        tokio::task::yield_now().await;
    }
}
