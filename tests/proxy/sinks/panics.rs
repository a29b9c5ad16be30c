use rusqlite::Connection as Ledger;

use super::*;
use crate::harness::{Connection, Upstream, until, upstream};

fn serve_with(program: &(Program, SocketAddr), fault: &str) -> Served {
    serve(program, |command| {
        command.env("STREAMGAUGE_FAULT", fault).stderr(Stdio::null());
        // The thread of memory runs with a limit only.
        command.env("STREAMGAUGE_SERVER__MAX_MEMORY", "1GiB");
    })
}

/// Sends one request, and waits until the sink has got its record.
fn send_one(served: &Served, sink: &str) {
    let given = || {
        let count = |result| {
            served.metric(&format!("streamgauge_sink_records_total{{sink=\"{sink}\",result=\"{result}\"}}"))
        };
        count("written") + count("failed")
    };
    let before = given();
    served.send(1);
    let begun = Instant::now();
    while given() == before {
        assert!(begun.elapsed() < PATIENCE, "{sink} is given nothing");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends requests, with `between` before each, until none is accepted. Returns the number of
/// responses.
fn send_until_the_end(served: &Served, body: &str, mut between: impl FnMut()) -> usize {
    let mut client = Client::connect(served.proxy);
    let begun = Instant::now();
    let mut sent = 0;
    loop {
        between();
        client.post("/v1/chat/completions", body);
        if client.next_response().is_none() {
            return sent;
        }
        sent += 1;
        assert!(begun.elapsed() < PATIENCE, "it goes on");
    }
}

#[test]
fn sink_that_panics_is_started_again() {
    for (sink, file_has) in [("jsonl", 3), ("ledger", 5)] {
        let program = program("jsonl = \"lines\"");
        let mut served = serve_with(&program, &format!("panic:{sink}:2"));
        (0..5).for_each(|_| send_one(&served, sink));
        assert_eq!(served.wait_for_ready(&format!("thread {sink} started again 2 times")), 200);
        let failed = format!("streamgauge_sink_records_total{{sink=\"{sink}\",result=\"failed\"}}");
        assert_eq!(served.metric(&failed), 2);
        assert_eq!(served.metric(&format!("streamgauge_thread_failures_total{{thread=\"{sink}\"}}")), 2);
        served.terminate();
        assert_eq!(served.end(DEADLINE).code(), Some(0));
        let lines = std::fs::read_to_string(program.0.path("lines")).unwrap();
        assert_eq!((lines.lines().count(), rows(&program)), (file_has, 8 - file_has));
    }
}

#[test]
fn sink_that_keeps_panicking_ends_the_process_in_order() {
    let program = program("jsonl = \"lines\"");
    let mut served = serve_with(&program, "panic:jsonl");
    let sent = send_until_the_end(&served, "{\"model\":\"m\",\"messages\":[]}", || ());
    assert_eq!(served.end(DEADLINE).code(), Some(1));
    assert!(sent >= 4, "{sent}");
    assert_eq!(rows(&program), sent);
}

#[test]
fn worker_that_panics_ends_the_process_in_order() {
    for thread in ["worker-0", "admin"] {
        let program = program("");
        let (mut reader, writer) = io::pipe().unwrap();
        let mut served = serve(&program, |command| {
            command.env("STREAMGAUGE_FAULT", format!("panic:{thread}:1")).stderr(writer);
        });
        assert_eq!(served.end(DEADLINE).code(), Some(1));
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        assert!(log.contains(&format!("the thread {thread} ended unexpectedly")), "{log}");
    }
}

/// An address without a server.
fn silent() -> Upstream {
    upstream(Connection::wait_for_close)
}

fn otlp(collector: &Upstream) -> String {
    format!("[otlp]\nendpoint = \"http://{}\"\ninterval = \"1s\"\n", collector.address)
}

fn postgres(server: &Upstream) -> String {
    format!(
        "[ledger.postgres]\nurl = {{ value = \"postgres://u:p@{}/u?sslmode=disable\" }}\n",
        server.address
    )
}

/// Waits until a client has connected, which a running thread does.
fn wait_for_connection(up: &Upstream) {
    until(PATIENCE, "a connection", || (up.accepted() > 0).then_some(()));
}

#[test]
fn every_other_thread_that_panics_is_started_again() {
    let (collector, server) = (silent(), silent());
    let program = program(&format!(
        "{}{}[upstreams.other]\nprovider = \"other\"\nurl = \"https://localhost:9/v1\"\napi_key = \"none\"\n\
         default_model = \"m\"\n[upstreams.other.tls]\nca = {{ file = \"ca.pem\" }}\n[[routes]]\nupstream = \"up\"\n",
        otlp(&collector),
        postgres(&server)
    ));
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(program.0.path("ca.pem"), pair.cert.pem()).unwrap();
    let threads = [
        "records",
        "metrics",
        "access-log",
        "log-writer",
        "memory",
        "estimates",
        "refusals",
        "configuration",
        "keys",
        "otlp-export",
        "ledger-ship",
    ];
    let faults: Vec<_> = threads.iter().map(|thread| format!("panic:{thread}:1")).collect();
    let mut served = serve_with(&program, &faults.join(","));
    (0..4).for_each(|_| send_one(&served, "ledger"));
    let estimated = "{\"model\":\"sim:usage=none\",\"messages\":[]}";
    let mut client = Client::connect(served.proxy);
    (0..2).for_each(|_| assert_eq!(client.post("/v1/chat/completions", estimated).response().status(), 200));
    // More than have a record each.
    for _ in 0..15 {
        assert_eq!(
            client.send("GET /v1/models HTTP/1.1\r\nhost: evil.example\r\n\r\n").response().status(),
            403
        );
    }
    for thread in threads {
        assert_eq!(served.wait_for_ready(&format!("thread {thread} started again 1 times")), 200);
    }
    assert_eq!(served.metric("streamgauge_panics_total"), threads.len() as u64);
    wait_for_connection(&collector);
    wait_for_connection(&server);
    served.terminate();
    assert_eq!(served.end(DEADLINE).code(), Some(0));
    let ledger = Ledger::open(program.0.path("a.db")).unwrap();
    let sum = |sql: &str| ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(sum("SELECT sum(coalesce(count, 1)) FROM usage_records"), 4 + 2 + 15);
    assert_eq!(sum("SELECT count(*) FROM usage_records WHERE usage_source = 'estimated'"), 2);
}

#[test]
fn estimates_that_keep_panicking_end_the_process_in_order() {
    let program = program("");
    let mut served = serve_with(&program, "panic:estimates");
    let sent = send_until_the_end(&served, "{\"model\":\"sim:usage=none\",\"messages\":[]}", || ());
    assert_eq!(served.end(DEADLINE).code(), Some(1));
    assert_eq!(rows(&program), sent);
}

/// Edits the file of a program by replacing a line.
fn edit(program: &(Program, SocketAddr), from: &str, to: &str) {
    let path = program.0.path("streamgauge.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn reload(program: &(Program, SocketAddr)) -> std::process::Output {
    program.0.command(&["reload"]).output().unwrap()
}

#[test]
fn reload_that_panics_is_refused_and_the_next_is_taken() {
    let program = program("");
    edit(&program, "[server]\n", "[server]\nwatch = false\n");
    // More often than a thread is restarted.
    let served = serve_with(&program, "panic:reload:5");
    edit(&program, "default_model = \"m\"", "default_model = \"n\"");
    for _ in 0..5 {
        let output = reload(&program);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("streamgauge failed to read it, which is a bug"), "{told}");
    }
    assert_eq!(served.metric("streamgauge_config_last_reload_successful"), 0);
    assert_eq!(served.metric("streamgauge_panics_total"), 5);
    assert_eq!(served.metric("streamgauge_thread_failures_total{thread=\"configuration\"}"), 0);
    served.send(1);
    assert_eq!(reload(&program).status.code(), Some(0));
    assert_eq!(served.metric("streamgauge_config_last_reload_successful"), 1);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn reload_names_the_workers_that_are_late() {
    let program = program("");
    edit(&program, "[server]\n", "[server]\nwatch = false\n");
    let served = serve_with(&program, "late:worker-0:1");
    edit(&program, "default_model = \"m\"", "default_model = \"n\"");
    let output = reload(&program);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("until they are idle: 1"), "{told}");
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&outcome["outcome"], &outcome["late_workers"]), (&"taken".into(), &1.into()));
    served.send(1);
}

/// The threads may panic before the proxy listens.
#[test]
fn thread_that_panics_at_each_start_ends_the_process_in_order() {
    let (collector, server) = (silent(), silent());
    for (thread, tables) in [("otlp-export", otlp(&collector)), ("ledger-ship", postgres(&server))] {
        let program = program(&tables);
        let (mut reader, writer) = io::pipe().unwrap();
        let mut command = program.0.command(&["serve"]);
        command.env("STREAMGAUGE_FAULT", format!("panic:{thread}")).stderr(writer);
        let child = command.spawn().unwrap();
        drop(command);
        let mut served = Served { child, proxy: program.1, admin: program.1 };
        assert_eq!(served.end(DEADLINE).code(), Some(1), "{thread}");
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        assert!(log.contains(&format!("the thread {thread} ended unexpectedly")), "{log}");
    }
}

/// Serves with this fault, and waits until the ledger is open: a connection is accepted before
/// that, and served after it.
fn serve_ledger_with(program: &(Program, SocketAddr), fault: &str) -> Served {
    let served = serve_with(program, fault);
    served.wait_for_ready("ledger ok");
    served
}

/// Grows the log of a ledger by this many bytes.
fn grow_log(program: &(Program, SocketAddr), bytes: i64) {
    let ledger = Ledger::open(program.0.path("a.db")).unwrap();
    ledger.busy_timeout(PATIENCE).unwrap();
    ledger.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    ledger.execute_batch("CREATE TABLE IF NOT EXISTS filler (bytes)").unwrap();
    ledger.execute("INSERT INTO filler VALUES (zeroblob(?1))", [bytes]).unwrap();
}

/// A size above that at which the log is copied, and above its growth before the next attempt.
const FIRST_COPY: i64 = 17 << 20;
const NEXT_COPY: i64 = 5 << 20;

#[test]
fn checkpoint_that_panics_is_started_again_and_copies_the_log() {
    let program = program("");
    let mut served = serve_ledger_with(&program, "panic:checkpoint:1");
    grow_log(&program, FIRST_COPY);
    send_one(&served, "ledger");
    assert_eq!(served.wait_for_ready("thread checkpoint started again 1 times"), 200);
    grow_log(&program, NEXT_COPY);
    send_one(&served, "ledger");
    let file = program.0.path("a.db");
    until(PATIENCE, "a copy of the log", || {
        (std::fs::metadata(&file).unwrap().len() > FIRST_COPY.unsigned_abs()).then_some(())
    });
    served.terminate();
    assert_eq!(served.end(DEADLINE).code(), Some(0));
    assert_eq!(rows(&program), 2);
}

#[test]
fn checkpoint_that_keeps_panicking_ends_the_process_in_order() {
    let program = program("");
    let mut served = serve_ledger_with(&program, "panic:checkpoint");
    grow_log(&program, FIRST_COPY);
    let body = "{\"model\":\"m\",\"messages\":[]}";
    let sent = send_until_the_end(&served, body, || grow_log(&program, NEXT_COPY));
    assert_eq!(served.end(DEADLINE).code(), Some(1));
    assert_eq!(rows(&program), sent);
}
