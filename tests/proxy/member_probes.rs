//! Probes of members that are left out: they cost nothing, have no record, and decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use streamgauge::config::reload::ReloadOutcome;

use crate::group_processes::Simulator;
use crate::harness::proxy::Builder;
use crate::harness::{
    CHAT_BODY, Client, PATIENCE, Program, Proxy, Request, Upstream, free_address, proxy, sized, until,
    upstream,
};

const PATH: &str = "/v1/chat/completions";
const JSON: &str = "application/json";

/// The state of a member.
const WELL: u8 = 0;
const FAILING: u8 = 1;
/// Chats work, and probes are not responded to.
const SILENT: u8 = 2;
const LOST: u8 = 3;

/// A member, the probes it gets, and the number of its chats.
struct Member {
    up: Upstream,
    state: Arc<AtomicU8>,
    probes: Receiver<Request>,
    chats: Arc<AtomicUsize>,
}

impl Member {
    fn new(state: u8) -> Self {
        let (seen, probes) = mpsc::channel();
        let (state, chats) = (Arc::new(AtomicU8::new(state)), Arc::<AtomicUsize>::default());
        let (now, count) = (Arc::clone(&state), Arc::clone(&chats));
        let up = upstream(move |connection| {
            while let Some(request) = connection.request() {
                let state = now.load(SeqCst);
                if request.line().starts_with("POST") {
                    count.fetch_add(1, SeqCst);
                } else {
                    let _ = seen.send(request);
                    if state == SILENT {
                        return connection.wait_for_close();
                    }
                    if state == LOST {
                        connection.send(sized("404 Not Found", JSON, b"{}"));
                        continue;
                    }
                }
                connection.send(match state {
                    WELL => sized("200 OK", JSON, CHAT_BODY.as_bytes()),
                    _ => sized("503 Service Unavailable", JSON, b"{}"),
                });
            }
        });
        Self { up, state, probes, chats }
    }

    fn probe(&self) -> Request {
        self.probes.recv_timeout(PATIENCE).expect("a probe")
    }

    fn chats(&self) -> usize {
        self.chats.load(SeqCst)
    }
}

const BREAKER: &str = "failures = 2\npause = [\"500ms\", \"500ms\"]\n";

/// A group whose first tier is `a`, and its second one `b`.
fn group(a: &Member, b: &Member, breaker: &str) -> Builder {
    proxy().other("a", a.up.address).other("b", b.up.address).admin().tables(&format!(
        "[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\nsticky = []\n[groups.chat.breaker]\n{breaker}\n[[routes]]\nupstream = \"chat\""
    ))
}

/// Sends a chat. Returns the member that served it.
fn ask(proxy: &Proxy, prompt: usize) -> String {
    let body = format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}");
    let response = proxy.client().post(PATH, &body).response();
    assert_eq!(response.status(), 200, "{}", response.text());
    response.header("x-streamgauge-upstream").unwrap().to_owned()
}

/// Opens the breaker of `a`.
fn open(proxy: &Proxy) {
    assert_eq!([ask(proxy, 1), ask(proxy, 2)], ["b", "b"]);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn probe_lets_a_member_in_again_without_a_clients_request() {
    let (a, b) = (Member::new(FAILING), Member::new(WELL));
    let proxy = group(&a, &b, &format!("{BREAKER}probe = \"/v1/models\"")).run();
    open(&proxy);
    assert_eq!(a.chats(), 2);
    for number in 0..3 {
        let probe = a.probe();
        assert_eq!(probe.line(), "GET /v1/models HTTP/1.1");
        assert_eq!(probe.header("authorization"), Some("Bearer sk-upstream"));
        assert_eq!(ask(&proxy, number), "b");
    }
    assert_eq!(a.chats(), 2, "no request became the trial");
    a.state.store(WELL, SeqCst);
    until(PATIENCE, "the member's return", || (ask(&proxy, 9) == "a").then_some(()));
    until(PATIENCE, "the counter", || {
        let page = proxy.page("/metrics");
        let has = |line: &str| page.text().lines().any(|found| found.starts_with(line));
        (has("streamgauge_probes_total{upstream=\"a\",result=\"good\"} 1")
            && has("streamgauge_probes_total{upstream=\"a\",result=\"failed\"} ")
            && has("streamgauge_upstream_available{upstream=\"a\"} 1"))
        .then_some(())
    });
    a.probes.try_iter().for_each(drop);
    assert!(a.probes.recv_timeout(Duration::from_millis(700)).is_err(), "a member that is well gets none");
    assert!(b.probes.try_recv().is_err());
    let records = proxy.stop();
    assert!(records.iter().all(|record| record["endpoint"] == "chat/completions"), "probes have no records");
}

#[test]
fn member_without_probes_is_decided_by_the_next_request() {
    let (a, b) = (Member::new(FAILING), Member::new(WELL));
    let proxy = group(&a, &b, BREAKER).run();
    open(&proxy);
    until(PATIENCE, "a trial", || {
        ask(&proxy, 3);
        (a.chats() == 3).then_some(())
    });
    assert!(a.probes.try_recv().is_err());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn path_that_is_not_served_leaves_the_next_request_to_decide() {
    let (a, b) = (Member::new(LOST), Member::new(WELL));
    let proxy = group(&a, &b, &format!("{BREAKER}probe = \"/no/such\"")).run();
    open(&proxy);
    assert_eq!(a.probe().line(), "GET /v1/no/such HTTP/1.1");
    until(PATIENCE, "a trial", || {
        ask(&proxy, 3);
        (a.chats() == 3).then_some(())
    });
    assert!(a.probes.recv_timeout(Duration::from_millis(700)).is_err(), "it is not asked again at once");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn reload_changes_the_path_and_a_stop_does_not_wait_for_a_probe() {
    let (a, b) = (Member::new(FAILING), Member::new(WELL));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streamgauge.toml");
    let builder = group(&a, &b, &format!("{BREAKER}probe = \"/v1/models\""));
    let text = builder.text();
    std::fs::write(&path, &text).unwrap();
    let proxy = builder.run_from(&path);
    open(&proxy);
    assert_eq!(a.probe().line(), "GET /v1/models HTTP/1.1");
    std::fs::write(&path, text.replace("\"/v1/models\"", "\"/v1/files\"")).unwrap();
    assert!(matches!(proxy.reload(), ReloadOutcome::Taken { .. }));
    until(PATIENCE, "the new path", || (a.probe().line() == "GET /v1/files HTTP/1.1").then_some(()));
    assert_eq!(a.chats(), 2, "the member is still out");
    a.state.store(SILENT, SeqCst);
    until(PATIENCE, "a silent probe", || {
        a.probe();
        // The next one comes only after this one has ended.
        a.probes.recv_timeout(Duration::from_millis(700)).is_err().then_some(())
    });
    let start = Instant::now();
    proxy.stop();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn silent_probe_fails_after_five_seconds() {
    let (a, b) = (Member::new(FAILING), Member::new(WELL));
    let proxy = group(&a, &b, &format!("{BREAKER}probe = \"/v1/models\"")).run();
    open(&proxy);
    a.state.store(SILENT, SeqCst);
    until(PATIENCE, "a silent probe", || {
        a.probe();
        a.probes.recv_timeout(Duration::from_millis(700)).is_err().then_some(())
    });
    let start = Instant::now();
    a.probe();
    let elapsed = start.elapsed();
    assert!(
        (4..6).contains(&elapsed.as_secs()),
        "{elapsed:?}: five seconds and a pause, less the wait above"
    );
    assert_eq!((ask(&proxy, 4), a.chats()), ("b".to_owned(), 2));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn killed_simulator_is_probed_until_it_is_back() {
    let (a, b) = (free_address(), free_address());
    let program = Program::unconfigured();
    let upstream = |name: &str, address| {
        format!(
            "[upstreams.{name}]\nprovider = \"other\"\nurl = \"http://{address}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n"
        )
    };
    program.configure(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"\"\n[log]\nformat = \"json\"\nlevel = \"info\"\n\
         [ledger]\npath = \"usage.db\"\n{}{}[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\nsticky = []\n\
         [groups.chat.breaker]\nfailures = 2\npause = [\"300ms\", \"1s\"]\nprobe = \"/v1/models\"\n[[routes]]\nupstream = \"chat\"\n",
        upstream("a", a),
        upstream("b", b)
    ));
    let _b = Simulator::start(&program, b);
    let serving = program.serve();
    let ask = |prompt: usize| {
        let body =
            format!("{{\"model\":\"sim\",\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}");
        let response = Client::connect(serving.address).post(PATH, &body).response();
        assert_eq!(response.status(), 200, "{}", response.text());
        response.header("x-streamgauge-upstream").unwrap().to_owned()
    };
    assert_eq!([ask(1), ask(2), ask(3)], ["b", "b", "b"]);
    let _a = Simulator::start(&program, a);
    let mut requests = 3;
    until(PATIENCE, "the member's return", || {
        requests += 1;
        (ask(requests) == "a").then_some(())
    });
    assert!(serving.has_logged("the probe was successful"));
    serving.signal("-TERM");
    serving.end();
    let connection = rusqlite::Connection::open(program.path("usage.db")).unwrap();
    let count: i64 =
        connection.query_row("SELECT count(*) FROM usage_records", [], |row| row.get(0)).unwrap();
    assert_eq!(count as usize, requests, "records are requests");
}
