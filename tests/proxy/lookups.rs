//! Name lookups with a resolver that never responds.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{CHAT_BODY, Client, Program, Upstream, sized, upstream};

/// A number above that of tokio's threads for blocking work.
const REQUESTS: usize = 600;

/// A resolver that accepts queries and never responds, for programs in a mount namespace of their
/// own.
struct SilentResolver(UdpSocket);

impl SilentResolver {
    fn new() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 53, high, low.max(1));
        Self(UdpSocket::bind((address, 53)).unwrap())
    }

    /// The command of a program for which this is the only resolver.
    fn serving(&self, program: &Program) -> Command {
        let configuration = program.path("resolv.conf");
        let nameserver = self.0.local_addr().unwrap().ip();
        std::fs::write(&configuration, format!("nameserver {nameserver}\noptions timeout:5 attempts:4\n"))
            .unwrap();
        program.shell(
            "exec unshare --mount sh -c 'mount --bind resolv.conf /etc/resolv.conf && exec \"$0\" serve' \"$0\"",
        )
    }
}

fn routed_to(local: &Upstream) -> Program {
    let port = local.address.port();
    let upstream = |name: &str, url: &str| {
        format!(
            "[upstreams.{name}]\nprovider = \"other\"\nurl = \"{url}\"\napi_key = \"none\"\n\
             default_model = \"{name}\"\ntimeouts = {{ connect = \"1s\" }}\n[[routes]]\nmodel = \"{name}\"\nupstream = \"{name}\"\n"
        )
    };
    let silent = upstream("silent", "http://silent.streamgauge.test/v1");
    let local = upstream("local", &format!("http://localhost:{port}/v1"));
    Program::new(&format!("path = \"\"\n{silent}{local}"))
}

fn ask(client: &mut Client, model: &str) {
    client.post("/v1/chat/completions", &format!("{{\"model\":\"{model}\",\"messages\":[]}}"));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn silent_resolver_holds_one_thread_and_no_other_upstream() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("not run: only root can put a resolver in the place of the system's");
        return;
    }
    let resolver = SilentResolver::new();
    let local = upstream(|connection| {
        connection.request();
        connection.send(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    });
    let program = routed_to(&local);
    let serving = program.serve_as(resolver.serving(&program));
    let idle = serving.threads();

    let mut clients: Vec<_> = (0..REQUESTS).map(|_| Client::connect(serving.address)).collect();
    for client in &mut clients {
        ask(client, "silent");
    }
    let mut query = [0; 512];
    resolver.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    resolver.0.recv(&mut query).expect("a lookup");

    let mut other = Client::connect(serving.address);
    ask(&mut other, "local");
    assert_eq!(other.response().status(), 200, "another upstream's name");
    for client in &mut clients {
        assert_eq!(client.response().status(), 504);
    }
    let most = idle + 2;
    assert!(serving.threads() <= most, "{} threads, and {idle} before", serving.threads());

    serving.signal("-TERM");
    let told = Instant::now();
    serving.end();
    assert!(told.elapsed() < Duration::from_secs(5), "the end waited for a lookup: {:?}", told.elapsed());
}
