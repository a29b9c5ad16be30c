//! Names with several addresses, of which one drops SYNs, and names whose address changes.
//!
//! The program resolves names from a file of the test's own, in a mount namespace.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::{
    CHAT_BODY, Client, Connection, PATIENCE, Program, Serving, Upstream, sized, until, upstream, upstream_on,
};

/// The system sorts it before the others of 127.0.0.0/8, whose source address it is (RFC 6724
/// section 5, rule 9).
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Only root has mount namespaces everywhere.
fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        println!("not run: only root can put a file in the place of /etc/hosts");
    }
    is_root
}

/// Both addresses of one port.
fn bind_both() -> (Socket, TcpListener) {
    loop {
        let first = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        first.bind(&SocketAddr::from((FIRST, 0)).into()).unwrap();
        let port = first.local_addr().unwrap().as_socket().unwrap().port();
        if let Ok(second) = TcpListener::bind((SECOND, port)) {
            return (first, second);
        }
    }
}

/// Makes an address drop SYNs: its backlog is filled, so that Linux responds to no more of them.
fn silence(listener: &Socket) -> Vec<Socket> {
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let is_full = socket.connect_timeout(&address, Duration::from_millis(100)).is_err();
        queued.push(socket);
        if is_full {
            return queued;
        }
    }
}

/// The program before an upstream, with names of the test's own.
struct Named(Program);

impl Named {
    /// `lines` belong to the upstream, which has no idle connections unless they configure some.
    fn new(names: &str, lines: &str) -> Self {
        let program = Program::unconfigured();
        program.configure(&format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"\"\n[ledger]\npath = \"\"\n\
             [log]\nformat = \"json\"\n[upstreams.up]\nprovider = \"other\"\napi_key = \"none\"\n\
             default_model = \"m\"\ntimeouts = {{ connect = \"2s\" }}\n{lines}\n"
        ));
        let named = Self(program);
        named.name(names);
        named
    }

    /// Writes in place, since the file is mounted.
    fn name(&self, names: &str) {
        fs::write(self.0.path("hosts"), format!("127.0.0.1 localhost\n{names}\n")).unwrap();
    }

    fn serve(&self) -> Serving {
        let script = "exec unshare --mount sh -c 'mount --bind hosts /etc/hosts && exec \"$0\" serve' \"$0\"";
        self.0.serve_as(self.0.shell(script))
    }
}

fn respond(connection: &mut Connection) {
    while connection.request().is_some() {
        connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    }
}

fn ask(client: &mut Client) -> u16 {
    client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}").response().status()
}

#[test]
fn address_that_swallows_syns_does_not_hide_the_next() {
    if !is_root() {
        return;
    }
    let (first, second) = bind_both();
    let port = second.local_addr().unwrap().port();
    let _queued = silence(&first);
    let up = upstream_on(second, respond);
    let lines = format!("url = \"http://both.test:{port}/v1\"\npool = {{ max_idle = 0 }}");
    let serving = Named::new("127.0.0.1 both.test\n127.0.0.2 both.test", &lines);
    let serving = serving.serve();
    let mut client = Client::connect(serving.address);
    for connections in 1..=3 {
        assert_eq!(ask(&mut client), 200);
        assert_eq!(up.accepted(), connections, "each request has a connection of its own");
    }
}

#[test]
fn forward_proxy_is_reached_at_its_second_address() {
    if !is_root() {
        return;
    }
    let (first, second) = bind_both();
    let port = second.local_addr().unwrap().port();
    let _queued = silence(&first);
    let (tell, openings) = mpsc::channel();
    let proxy = upstream_on(second, move |connection| {
        tell.send(connection.head().unwrap()).unwrap();
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        respond(connection);
    });
    let lines = format!("url = \"http://llm.invalid:8000/v1\"\nproxy = \"http://proxy.test:{port}\"");
    let named = Named::new("127.0.0.1 proxy.test\n127.0.0.2 proxy.test", &lines);
    let serving = named.serve();
    assert_eq!(ask(&mut Client::connect(serving.address)), 200);
    assert_eq!(proxy.accepted(), 1);
    let opening = openings.recv_timeout(PATIENCE).unwrap();
    assert!(opening.starts_with("CONNECT llm.invalid:8000 "), "{opening}");
}

#[test]
fn socks5_proxy_is_asked_for_the_next_address_of_the_target() {
    if !is_root() {
        return;
    }
    const UNREACHABLE: &[u8] = &[5, 4, 0, 1, 0, 0, 0, 0, 0, 0];
    const OPEN: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let (tell, targets) = mpsc::channel();
    let proxy = upstream(move |connection| {
        // RFC 1928: no authentication, then CONNECT to an IPv4 address.
        assert_eq!(connection.read(3), [5, 1, 0]);
        connection.send([5, 0]);
        let request = connection.read(10);
        assert_eq!(request[..4], [5, 1, 0, 1]);
        let target = [request[4], request[5], request[6], request[7]];
        tell.send(target).unwrap();
        if target == FIRST.octets() {
            return connection.send(UNREACHABLE);
        }
        connection.send(OPEN);
        respond(connection);
    });
    let lines = format!("url = \"http://both.test:8000/v1\"\nproxy = \"socks5://{}\"", proxy.address);
    let named = Named::new("127.0.0.1 both.test\n127.0.0.2 both.test", &lines);
    let serving = named.serve();
    assert_eq!(ask(&mut Client::connect(serving.address)), 200);
    let asked: Vec<_> = targets.try_iter().collect();
    assert_eq!(asked, [FIRST.octets(), SECOND.octets()]);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn name_that_moves_is_followed_under_steady_load() {
    if !is_root() {
        return;
    }
    let (first, second) = bind_both();
    let port = second.local_addr().unwrap().port();
    first.listen(16).unwrap();
    let before: Upstream = upstream_on(first.into(), respond);
    let after = upstream_on(second, respond);
    let lines = format!("url = \"http://moving.test:{port}/v1\"\nmax_connection_age = \"300ms\"");
    let named = Named::new("127.0.0.1 moving.test", &lines);
    let serving = named.serve();
    let mut client = Client::connect(serving.address);
    assert_eq!(ask(&mut client), 200);
    assert_eq!((before.accepted(), after.accepted()), (1, 0));
    named.name("127.0.0.2 moving.test");
    until(PATIENCE, "a request at the new address", || {
        assert_eq!(ask(&mut client), 200);
        (after.accepted() > 0).then_some(())
    });
}
