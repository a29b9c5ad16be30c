//! The admin pages of a whole fleet, from a real PostgreSQL.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::postgres::Server;
use crate::harness::{PATIENCE, Program, ids};

/// A program whose pages show `ledger`, and their address.
fn program(server: &Server, ledger: &str) -> (Program, SocketAddr) {
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let program = Program::with_admin(
        &format!("listen = \"{admin}\"\nledger = \"{ledger}\""),
        &format!("path = \"usage.db\"\n[ledger.postgres]\nurl = {{ value = \"{}\" }}", server.url()),
    );
    let output = program.command(&["ledger", "migrate"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    (program, admin)
}

fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
    // Version 1.0, so that only the end of the connection frames the body.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {admin}\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn json(admin: SocketAddr, path: &str) -> Value {
    let (status, body) = get(admin, path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn command_pages_and_both_databases_give_the_same_numbers() {
    let server = Server::start();
    let (program, fleet) = program(&server, "postgres");
    let serving = program.serve();
    let ended = serving.load(2, || thread::sleep(Duration::from_millis(700)));
    let count = || server.number("SELECT count(*) FROM usage_records");
    let start = Instant::now();
    while count() < ended.len() as u64 {
        assert!(start.elapsed() < PATIENCE, "{} of {}", count(), ended.len());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ids(&program.path("usage.db")).len(), ended.len());

    let by = "day,client,upstream,endpoint,model,user";
    let times = "since=2020-01-01&until=2100-01-01";
    let command = |from: &str| -> Value {
        let (since, until) = ("2020-01-01", "2100-01-01");
        let output = program
            .usage(&["--by", by, "--since", since, "--until", until, "--format", "json", "--from", from]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let expected = command("sqlite");
    assert_eq!(expected["total"]["requests"], ended.len());
    assert_eq!(expected["groups"][0]["endpoint"], "chat/completions");
    assert_eq!(command("postgres"), expected);
    assert_eq!(json(fleet, &format!("/usage?{times}&by={by}")), expected);
    let page = get(fleet, "/").1;
    assert!(page.contains("Usage of the whole fleet, from postgres://127.0.0.1:"), "{page}");
    assert!(page.contains(&format!("<data value=\"{}\"", ended.len())), "{page}");

    let id = &ended[0].0;
    let record = json(fleet, &format!("/usage/{id}"));
    assert_eq!((record["id"].as_str(), record["outcome"].as_str()), (Some(&**id), Some("complete")));
    assert!(record["instance"].is_string(), "{record}");
    let latest = json(fleet, &format!("/records?{times}&limit=10000"));
    assert_eq!(latest["records"].as_array().unwrap().len(), ended.len());
    assert_eq!(get(fleet, "/usage/01890000-0000-7000-8000-000000000000").0, 404);
    serving.signal("-TERM");
    serving.end();

    // A program whose pages show its own file.
    let text = std::fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    let own = text.replace("ledger = \"postgres\"", "ledger = \"sqlite\"");
    std::fs::write(program.path("streamgauge.toml"), own).unwrap();
    let serving = program.serve();
    assert_eq!(json(fleet, &format!("/usage?{times}&by={by}")), expected);
    let page = get(fleet, "/").1;
    assert!(page.contains("Usage of this instance, from usage.db"), "{page}");
    drop(serving);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn absent_database_is_reported_and_delays_no_other_page() {
    let mut server = Server::start();
    let (program, admin) = program(&server, "postgres");
    let serving = program.serve();
    assert_eq!(get(admin, "/").0, 200);
    server.freeze();
    // A reader for each place, all without a result.
    let readers: Vec<_> = (0..4).map(|_| thread::spawn(move || get(admin, "/?range=7d"))).collect();
    thread::sleep(Duration::from_millis(300));
    for path in ["/metrics", "/healthz", "/readyz", "/config"] {
        let start = Instant::now();
        assert_eq!(get(admin, path).0, 200, "{path}");
        assert!(start.elapsed() < Duration::from_secs(2), "{path}: {:?}", start.elapsed());
    }
    for reader in readers {
        let (status, page) = reader.join().unwrap();
        assert!(matches!(status, 500 | 503), "{status}");
        assert!(page.contains("There are no numbers to show."), "{page}");
    }
    server.thaw();
    server.stop();
    let (status, page) = get(admin, "/");
    assert_eq!(status, 500);
    assert!(page.contains("id=\"failed\"") && page.contains("The ledger cannot be read"), "{page}");
    let (status, body) = get(admin, "/usage");
    assert_eq!((status, body.contains("ledger_unreadable")), (500, true), "{body}");
    server.resume();
    assert_eq!(get(admin, "/").0, 200);
    drop(serving);
}
