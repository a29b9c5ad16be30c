//! A fleet's ledger in a real PostgreSQL: the rows that reach it through crashes and outages,
//! without effect on streams.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;

use crate::harness::postgres::{PASSWORD, PASSWORD_ENCODED, Server};
use crate::harness::{PATIENCE, Program, ids};

/// The records that a crash may cost by DESIGN.md: those that ended within this time before it.
const LOSS: Duration = Duration::from_millis(200);

fn ledger(server: &Server) -> String {
    format!(
        "path = \"usage.db\"\n[ledger.postgres]\nurl = {{ value = \"{}\" }}\ninstance = \"gateway-1\"",
        server.url()
    )
}

/// A program whose ledger is in PostgreSQL too.
fn program(server: &Server) -> Program {
    let program = Program::new(&ledger(server));
    let output = program.command(&["ledger", "migrate"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    program
}

fn count(server: &Server) -> u64 {
    server.number("SELECT count(*) FROM usage_records")
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE * 3, "{what} did not come about");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until PostgreSQL has exactly the rows of the file.
fn wait_until_the_same(server: &Server, program: &Program) {
    let local = ids(&program.path("usage.db"));
    wait_for("the shipment of all records", || count(server) >= local.len() as u64);
    let rows: Vec<_> = server.sql("SELECT id FROM usage_records").lines().map(str::to_owned).collect();
    assert_eq!(rows.len(), local.len(), "a row is there twice");
    assert_eq!(rows.into_iter().collect::<HashSet<_>>(), local);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn ten_crashes_lose_no_record_over_200_ms_and_duplicate_none() {
    let server = Server::start();
    let program = program(&server);
    let path = program.path("usage.db");
    for round in 0..10 {
        let serving = program.serve();
        let at = fastrand::usize(1..20_000);
        let mut killed = None;
        let ended = serving.load(4, || {
            let start = Instant::now();
            while serving.served.load(Ordering::Relaxed) < at && start.elapsed() < PATIENCE {
                thread::sleep(Duration::from_micros(fastrand::u64(..2000)));
            }
            killed = Some(Instant::now());
            serving.signal("-KILL");
        });
        serving.end();
        let killed = killed.unwrap();
        let kept = ids(&path);
        let old = ended.iter().filter(|(_, at)| *at + LOSS < killed);
        let lost: Vec<_> = old.filter(|(id, _)| !kept.contains(id)).collect();
        assert!(lost.is_empty(), "round {round}, after {at} requests: {} are lost", lost.len());
        assert!(count(&server) <= kept.len() as u64, "round {round}: what is not in the file is shipped");
    }
    let serving = program.serve();
    wait_until_the_same(&server, &program);
    serving.signal("-TERM");
    serving.end();
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn a_server_that_crashes_under_load_gets_each_record_once() {
    let mut server = Server::start();
    let program = program(&server);
    let serving = program.serve();
    serving.load(2, || {
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(300 + fastrand::u64(..700)));
            server.kill();
            thread::sleep(Duration::from_millis(fastrand::u64(..1000)));
            server.resume();
        }
    });
    serving.signal("-TERM");
    let log = serving.end();
    // The last attempt may have met the server during its start: the next start ships the rest.
    let serving = program.serve();
    wait_until_the_same(&server, &program);
    drop(serving);
    let said = log.iter().filter(|line| line.contains("cannot be shipped to PostgreSQL")).count();
    assert!((1..=12).contains(&said), "once for each state, not for each attempt: {log:#?}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn sigterm_ships_all_that_ended() {
    let server = Server::start();
    let program = program(&server);
    let serving = program.serve();
    let ended = serving.load(2, || thread::sleep(Duration::from_millis(500)));
    serving.signal("-TERM");
    serving.end();
    assert_eq!(count(&server), ended.len() as u64);
    assert_eq!(server.sql("SELECT DISTINCT instance FROM usage_records"), "gateway-1");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn proxy_serves_without_tables_and_ships_once_they_exist() {
    let server = Server::start();
    let program = Program::new(&ledger(&server));
    let serving = program.serve();
    let ended = serving.load(1, || thread::sleep(Duration::from_millis(1500)));
    assert!(ended.len() > 20, "requests are served: {}", ended.len());
    let output = program.command(&["ledger", "migrate"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.starts_with("the ledger was created, with schema"), "{stderr}");
    assert!(output.stdout.is_empty());
    wait_until_the_same(&server, &program);
    let output = program.command(&["ledger", "migrate"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("already"), "{output:?}");

    // Both have the same sums, in every form.
    for format in ["table", "json", "csv"] {
        let usage = |from| {
            let output =
                program.usage(&["--by", "day,client,upstream,model", "--format", format, "--from", from]);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let without_time = |text: String| -> Vec<String> {
            // The table's line may be that of the next second.
            let moves = |line: &&str| {
                line.contains("\"since\"") || line.contains("\"until\"") || line.starts_with("since ")
            };
            text.lines().filter(|line| !moves(line)).map(str::to_owned).collect()
        };
        let (local, fleet) = (usage("sqlite"), usage("postgres"));
        assert!(local.contains("up"), "{local}");
        assert_eq!(without_time(local), without_time(fleet));
    }
    serving.signal("-TERM");
    let log = serving.end();
    let said: Vec<_> = log.iter().filter(|line| line.contains("cannot be shipped")).collect();
    assert_eq!(said.len(), 1, "{log:#?}");
    assert!(said[0].contains("run `streamgauge ledger migrate`"), "{said:?}");
    assert!(log.iter().any(|line| line.contains("are shipped to PostgreSQL again")), "{log:#?}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn wrong_password_is_logged_once_unseen_and_stops_no_request() {
    let server = Server::start();
    let wrong = server.url().replace(PASSWORD_ENCODED, "wrong-marker");
    let program =
        Program::new(&format!("path = \"usage.db\"\n[ledger.postgres]\nurl = {{ value = \"{wrong}\" }}"));
    let serving = program.serve();
    let ended = serving.load(1, || thread::sleep(Duration::from_millis(2500)));
    assert!(ended.len() > 20, "requests are served: {}", ended.len());
    serving.signal("-TERM");
    let log = serving.end();
    let said: Vec<_> = log.iter().filter(|line| line.contains("cannot be shipped")).collect();
    assert_eq!(said.len(), 1, "{log:#?}");
    assert!(said[0].contains("password authentication failed"), "{said:?}");
    assert!(log.iter().any(|line| line.contains("wait in the local ledger for the next start")), "{log:#?}");
    for arguments in [&["ledger", "migrate"][..], &["usage", "--from", "postgres"]] {
        let output = program.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("password authentication failed"), "{stderr}");
        assert!(!stderr.contains("marker") && !stderr.contains(PASSWORD), "{stderr}");
    }
    assert!(log.iter().all(|line| !line.contains("marker") && !line.contains(PASSWORD)), "{log:#?}");
    assert_eq!(ids(&program.path("usage.db")).len(), ended.len());
}

#[test]
fn commands_without_a_fleet_say_so() {
    let program = Program::new("path = \"usage.db\"");
    for (arguments, message) in [
        (&["ledger", "migrate"][..], "ledger migrate: the configuration has no [ledger.postgres]"),
        (&["usage", "--from", "postgres"], "usage: the configuration has no [ledger.postgres] to read from"),
    ] {
        let output = program.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with(message), "{output:?}");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn an_outage_of_a_minute_slows_no_stream_and_loses_no_record() {
    let mut server = Server::start();
    let program = program(&server);
    let serving = program.serve();
    let stop = AtomicBool::new(false);
    let (before, outage) = thread::scope(|scope| {
        let streams: Vec<_> = (0..10).map(|_| scope.spawn(|| stream(serving.address, &stop))).collect();
        let load = scope.spawn(|| {
            serving.load(1, || {
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                }
            })
        });
        let begin = Instant::now();
        thread::sleep(Duration::from_secs(15));
        // For half of the time the port is closed, for the other half no server responds.
        let away = Instant::now();
        server.stop();
        thread::sleep(Duration::from_secs(30));
        server.resume();
        wait_for("a first shipment", || count(&server) > 0);
        server.freeze();
        thread::sleep(Duration::from_secs(30));
        let back = Instant::now();
        server.thaw();
        stop.store(true, Ordering::Relaxed);
        assert!(load.join().unwrap().len() > 500, "there was load");
        let late: Vec<_> = streams.into_iter().flat_map(|stream| stream.join().unwrap()).collect();
        let within = |from: Instant, to: Instant| {
            let some = late.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, late)| *late);
            let mut some: Vec<_> = some.collect();
            some.sort_unstable();
            some
        };
        (within(begin, away), within(away, back))
    });
    assert!(before.len() > 2000 && outage.len() > 10_000, "{} and {} events", before.len(), outage.len());
    // From the service to the client. A worker that waited for the database, or for a file that
    // waits for it, would be late by its pauses of half a second and more; all other differences
    // are this machine's.
    let at = |sorted: &[Duration], share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    let show = |sorted: &[Duration]| [0.5, 0.9, 0.99, 1.0].map(|share| at(sorted, share));
    eprintln!("late by p50, p90, p99, max: before {:?}, in the outage {:?}", show(&before), show(&outage));
    for (share, room) in [(0.5, 2), (0.9, 10), (0.99, 50)] {
        let (before, outage) = (at(&before, share), at(&outage, share));
        let bound = before * 2 + Duration::from_millis(room);
        assert!(outage < bound, "of {share} of the events: {before:?} before, {outage:?} in the outage");
    }
    serving.signal("-TERM");
    serving.end();
    let serving = program.serve();
    wait_until_the_same(&server, &program);
    drop(serving);
}

/// Reads streams one after the other, with an event every 10 ms. Returns the arrival of each event,
/// and its delay since the service created it.
fn stream(address: SocketAddr, stop: &AtomicBool) -> Vec<(Instant, Duration)> {
    let mut late = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = "{\"model\":\"sim:events=200,pace=10ms,stamp=1\",\"messages\":[],\"stream\":true}";
        write!(
            stream,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            let Some((_, stamp)) = line.split_once("\"stamp\":") else { continue };
            let digits = stamp.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(stamp.len());
            let made = SystemTime::UNIX_EPOCH + Duration::from_nanos(stamp[..digits].parse().unwrap());
            late.push((Instant::now(), made.elapsed().unwrap_or_default()));
        }
    }
    late
}
