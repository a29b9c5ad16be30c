use std::net::TcpListener;

use socket2::{Domain, Socket, Type};

use super::*;

/// An address that drops SYNs: its listener's backlog is full, so that Linux responds to none of
/// them (tcp(7), `tcp_abort_on_overflow`).
struct Silent {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl Silent {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let is_full = socket.connect_timeout(&address.into(), Duration::from_millis(100)).is_err();
            queued.push(socket);
            if is_full {
                return Self { address, _listener: listener, _queued: queued };
            }
        }
    }
}

fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn closed() -> SocketAddr {
    listening().1
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn families_alternate_beginning_with_the_first() {
    let [a, b, c, v, w] =
        ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "[fd00::1]:1", "[fd00::2]:1"].map(address);
    for (given, expected) in [
        (vec![v, w, a, b, c], vec![v, a, w, b, c]),
        (vec![a, b, c, v], vec![a, v, b, c]),
        (vec![v, w], vec![v, w]),
        (vec![], vec![]),
    ] {
        assert_eq!(ordered(given, None), expected);
    }
}

#[test]
fn winner_is_first_while_it_is_an_address_of_the_name() {
    let [a, b, v] = ["10.0.0.1:1", "10.0.0.2:1", "[fd00::1]:1"].map(address);
    assert_eq!(ordered(vec![v, a, b], Some(b)), [b, v, a]);
    assert_eq!(ordered(vec![v, a], Some(b)), [v, a], "the name has moved");
}

#[test]
fn winner_is_forgotten_after_ten_minutes() {
    let (winner, now) = (Winner::default(), Instant::now());
    winner.note(address("10.0.0.1:1"), now);
    assert!(winner.get(now + MEMORY - Duration::from_secs(1)).is_some());
    assert!(winner.get(now + MEMORY).is_none());
}

#[tokio::test]
async fn silent_address_costs_the_delay_once() {
    let silent = Silent::new();
    let (_listener, good) = listening();
    let winner = Winner::default();
    let begun = Instant::now();
    let (tcp, took) = connect(vec![silent.address, good], &winner).await.unwrap();
    assert_eq!(tcp.peer_addr().unwrap(), good);
    assert!(begun.elapsed() >= DELAY, "the next attempt began too soon: {:?}", begun.elapsed());
    assert!(took < DELAY, "the time of the silent address is none of this one's: {took:?}");

    let begun = Instant::now();
    let (tcp, _) = connect(vec![silent.address, good], &winner).await.unwrap();
    assert_eq!(tcp.peer_addr().unwrap(), good);
    assert!(begun.elapsed() < DELAY, "the winner was not tried first: {:?}", begun.elapsed());
}

#[tokio::test]
async fn failure_starts_the_next_attempt_at_once() {
    let (_listener, good) = listening();
    let addresses: Vec<_> = (0..8).map(|_| closed()).chain([good]).collect();
    let begun = Instant::now();
    let (tcp, _) = connect(addresses, &Winner::default()).await.unwrap();
    assert_eq!(tcp.peer_addr().unwrap(), good);
    assert!(begun.elapsed() < DELAY, "it waited: {:?}", begun.elapsed());
}

#[tokio::test]
async fn first_address_that_accepts_is_not_remembered() {
    let [(_one, first), (_other, second)] = [listening(), listening()];
    let winner = Winner::default();
    connect(vec![first, second], &winner).await.unwrap();
    assert_eq!(winner.get(Instant::now()), None);
}

#[tokio::test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
async fn more_silent_addresses_than_attempts_do_not_hide_the_good_one() {
    let silent = Silent::new();
    let (_listener, good) = listening();
    let mut addresses = vec![silent.address; AT_ONCE + 1];
    addresses.push(good);
    let (tcp, _) = connect(addresses, &Winner::default()).await.unwrap();
    assert_eq!(tcp.peer_addr().unwrap(), good);
}

#[tokio::test]
async fn last_failure_is_reported_if_no_address_accepts() {
    let error = connect(vec![closed(), closed()], &Winner::default()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let error = connect(Vec::new(), &Winner::default()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
