//! Clients behind load balancers: the address of a trusted proxy's client, by headers and by the
//! PROXY protocol.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::tls::Folder;
use crate::harness::{CHAT_BODY, Client, PATIENCE, Program, Serving, Upstream, proxy, sized, until};

/// The trusted proxy. Other addresses of loopback are not trusted.
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));

const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 51000 443\r\n";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The program with lines in `[server]` and `[clients]`, and an access log of everything.
fn serve(server: &str, tables: &str) -> (Program, Serving) {
    let program = Program::with_admin("listen = \"\"", "path = \"\"");
    let file = program.path("streamgauge.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replacen("workers = 1\n", &format!("workers = 1\n{server}\n"), 1);
    let text = text.replacen("level = \"info,streamgauge::access=off\"", "level = \"info\"", 1);
    fs::write(&file, format!("{text}{tables}")).unwrap();
    let serving = program.serve();
    (program, serving)
}

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";

fn request(headers: &str) -> String {
    format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")
}

/// The addresses in the access log, which has one line a request.
fn addresses(serving: Serving) -> Vec<Value> {
    serving.signal("-TERM");
    let log = serving.end();
    let lines = log.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.filter(|line| line["target"] == "streamgauge::access");
    lines.map(|line| line["client_address"].clone()).collect()
}

#[test]
fn client_of_a_trusted_proxy_is_in_the_access_log() {
    let (_program, serving) = serve(TRUSTED, "");
    let cases = [
        (PROXY, "X-Forwarded-For: 198.51.100.9, 192.0.2.1:80, 10.0.0.2\r\n", "192.0.2.1"),
        (
            PROXY,
            "forwarded: for=198.51.100.9\r\nforwarded: for=\"[2001:db8::1]:80\";proto=https\r\n",
            "2001:db8::1",
        ),
        (PROXY, "x-forwarded-for: 192.0.2.1\r\nforwarded: for=198.51.100.9\r\n", "127.0.0.1"),
        (PROXY, "x-forwarded-for: unknown\r\n", "127.0.0.1"),
        (PROXY, "connection: x-forwarded-for\r\nx-forwarded-for: 192.0.2.1\r\n", "192.0.2.1"),
        (PROXY, "", "127.0.0.1"),
        (OTHER, "x-forwarded-for: 192.0.2.1\r\n", "127.0.0.3"),
    ];
    for (source, headers, _) in cases {
        Client::connect_from(source, serving.address).send(request(headers)).response();
    }
    assert_eq!(addresses(serving), cases.map(|(_, _, expected)| expected));
}

#[test]
fn guesses_are_slowed_down_by_the_address_of_the_client() {
    let clients = "[clients.a]\nkey = { value = \"sg-0123456789abcdef\" }\n";
    let (_program, serving) = serve(TRUSTED, clients);
    let guess =
        |address: &str| request(&format!("x-forwarded-for: {address}\r\nauthorization: Bearer wrong\r\n"));
    let mut guesser = Client::connect(serving.address);
    for _ in 0..50 {
        assert_eq!(guesser.send(guess("192.0.2.7")).response().status(), 401);
    }
    assert!(!serving.has_logged("many unknown keys"));
    // The response of this one waits.
    guesser.send(guess("192.0.2.7"));
    until(PATIENCE, "the line of slowed refusals", || serving.has_logged("192.0.2.7").then_some(()));
    let other = Client::connect(serving.address).send(guess("192.0.2.8")).response();
    assert_eq!(other.status(), 401);
    assert!(serving.has_logged("many unknown keys"));
}

/// A header of version 2 with this command and family.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &(block.len() as u16).to_be_bytes(), block].concat()
}

#[test]
fn proxy_header_names_the_client_of_a_connection() {
    let (_program, serving) = serve(&format!("{TRUSTED}\nproxy_protocol = true"), "");
    let block = [198, 51, 100, 9, 10, 0, 0, 1, 0xc7, 0x38, 1, 0xbb, 0x02, 0, 2, b'a', b'b'];
    let own = request("x-forwarded-for: 203.0.113.5\r\n");
    for (source, header) in [
        (PROXY, LINE.to_vec()),
        (PROXY, binary(0x21, 0x11, &block)),
        // A check of the proxy itself, whose headers are believed.
        (PROXY, binary(0x20, 0, b"")),
        (PROXY, b"PROXY UNKNOWN\r\n".to_vec()),
        // A further trusted proxy, behind that of the connection.
        (PROXY, b"PROXY TCP4 10.0.0.9 10.0.0.1 51000 443\r\n".to_vec()),
        (OTHER, Vec::new()),
    ] {
        let mut client = Client::connect_from(source, serving.address);
        let bytes = [&header[..], own.as_bytes()].concat();
        assert_eq!(client.send(bytes).response().status(), 200);
    }
    let expected = [
        Value::from("192.0.2.7"),
        "198.51.100.9".into(),
        "203.0.113.5".into(),
        Value::Null,
        "203.0.113.5".into(),
        "127.0.0.3".into(),
    ];
    assert_eq!(addresses(serving), expected);
}

#[test]
fn connection_without_a_valid_proxy_header_is_closed() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let server = format!("{TRUSTED}\nproxy_protocol = true\nheader_timeout = \"300ms\"");
    let proxy = proxy().server(&server).admin().upstream(&up).run();
    let closed =
        |reason: &str| proxy.metric(&format!("streamgauge_connections_closed_total{{reason=\"{reason}\"}}"));
    let asked = request("");
    let faulty =
        [asked.as_bytes(), b"PROXY TCP4 x\r\n", b"\x16\x03\x01\x02\0", &binary(0x31, 0x11, &[0; 12])];
    for bytes in faulty {
        assert_eq!(proxy.client().send(bytes).rest(), b"", "{bytes:?}");
    }
    assert_eq!(closed("proxy_header"), faulty.len() as f64);
    // A part of a header, or nothing, is not waited for longer than for a head.
    for bytes in [b"PROXY TCP4 ", &b""[..]] {
        assert_eq!(proxy.client().send(bytes).rest(), b"", "{bytes:?}");
    }
    assert_eq!((closed("proxy_header"), closed("header_timeout")), (faulty.len() as f64, 2.0));
    // A load balancer's check of the port is no fault.
    drop(proxy.client());
    let response = proxy.client().send([LINE, asked.as_bytes()].concat()).response();
    assert_eq!(response.status(), 200);
    assert_eq!(closed("proxy_header"), faulty.len() as f64);
}

#[test]
fn proxy_header_comes_before_tls() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let tls = Folder::new();
    let server = format!("{TRUSTED}\nproxy_protocol = true");
    let proxy = proxy().server(&server).tls(&tls.lines("server")).upstream(&up).run();
    let trust = tls.client(None);
    let mut client = Client::over_tls_behind(LINE, &trust, proxy.address, &[b"http/1.1"]).unwrap();
    assert_eq!(client.send(request("")).response().status(), 200);
    assert!(Client::over_tls(&trust, proxy.address, &[b"http/1.1"]).is_err(), "it has no header");
}

#[test]
fn reload_changes_the_trusted_proxies() {
    let (program, serving) = serve(&format!("{TRUSTED}\nproxy_protocol = true\nwatch = false"), "");
    let forwarded = request("x-forwarded-for: 192.0.2.1\r\n");
    let header = [LINE, forwarded.as_bytes()].concat();
    Client::connect(serving.address).send(&header).response();
    let file = program.path("streamgauge.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("proxy_protocol = true", "proxy_protocol = false")).unwrap();
    serving.signal("-HUP");
    until(PATIENCE, "the reload", || serving.has_logged("the new configuration is in use").then_some(()));
    Client::connect(serving.address).send(&forwarded).response();
    assert_eq!(addresses(serving), ["192.0.2.7", "192.0.2.1"]);
}

/// HAProxy with these lines in its backend. It ends when it is dropped.
struct HaProxy {
    child: Child,
    address: SocketAddr,
}

impl HaProxy {
    fn start(folder: &Path, mode: &str, server: SocketAddr, backend: &str, options: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = folder.join("haproxy.cfg");
        let text = format!(
            "defaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n\
             frontend in\n  bind {address}\n  default_backend out\n\
             backend out\n{backend}  server one {server} {options}\n"
        );
        fs::write(&file, text).unwrap();
        let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy"];
        let program = program.into_iter().find(|path| Path::new(path).exists());
        let program = program.expect("HAProxy, which tests/run installs");
        let mut command = Command::new(program);
        command
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let haproxy = Self { child, address };
        until(PATIENCE, "HAProxy's socket", || Client::try_connect(address).map(drop));
        haproxy
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn haproxy_names_its_client_by_header_and_by_protocol() {
    for (mode, backend, options, is_on) in [
        ("http", "  option forwardfor\n", "", false),
        ("tcp", "", "send-proxy", true),
        ("tcp", "", "send-proxy-v2 proxy-v2-options crc32c,unique-id", true),
        ("http", "  option forwardfor\n", "send-proxy-v2 check check-send-proxy", true),
    ] {
        let (program, serving) = serve(&format!("{TRUSTED}\nproxy_protocol = {is_on}"), "");
        let haproxy = HaProxy::start(&program.path(""), mode, serving.address, backend, options);
        for _ in 0..2 {
            let response = Client::connect_from(OTHER, haproxy.address).send(request("")).response();
            assert_eq!(response.status(), 200, "{options}");
        }
        drop(haproxy);
        assert!(!serving.has_logged("without a valid header"), "{options}");
        assert_eq!(addresses(serving), [&*OTHER.to_string(); 2], "{options}");
    }
}
