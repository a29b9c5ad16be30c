//! Limits that replicas share, while configurations, ledgers, prefixes and connections change.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::certificates::{Authority, Pair};
use crate::harness::redis::Redis;
use crate::harness::redis_link::RedisLink;
use crate::harness::{CHAT_BODY, PATIENCE, Proxy, Upstream, free_address, proxy, sized, until};
use crate::shared_limits::{Ledgers, admitted, ask, is_connected, replica_with, reported, tables};

/// The files of a server's and a client's certificate.
struct Certificates {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Certificates {
    fn new() -> Self {
        let made = Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new("redis") };
        made.write("ca.crt", &made.authority.pem());
        made.write_pair("server", &made.authority.issue("redis", &["127.0.0.1", "localhost"]));
        made.write_pair("client", &made.authority.issue("replica", &[]));
        made.write_pair("stranger", &Authority::new("other").issue("replica", &[]));
        made
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn write_pair(&self, name: &str, pair: &Pair) {
        self.write(&format!("{name}.crt"), &pair.certificate);
        self.write(&format!("{name}.key"), &pair.key);
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A server that is reached through TLS at this port, too.
    fn server(&self, port: u16, clients: &str) -> Redis {
        Redis::start_with(&format!(
            "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients {clients}",
            self.path("server.crt"),
            self.path("server.key"),
            self.path("ca.crt"),
        ))
    }

    /// Lines of the table of a client with this certificate, if it has one.
    fn lines(&self, client: Option<&str>) -> String {
        let ca = format!("[redis.tls]\nca = [{{ file = {:?} }}]\n", self.path("ca.crt"));
        let certificate = client.map(|name| {
            let (certificate, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
            format!("certificate = {{ file = {certificate:?} }}\nprivate_key = {{ file = {key:?} }}\n")
        });
        ca + &certificate.unwrap_or_default()
    }
}

#[test]
fn redis_is_reached_through_tls_with_its_own_authority() {
    let (certificates, port) = (Certificates::new(), free_address().port());
    let redis = certificates.server(port, "no");
    let limits = "{ requests = 3, per = \"hour\" }";
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("rediss://{host}:{port}");
        let tables = tables(&url, &format!("prefix = \"{host}\"\n{}", certificates.lines(None)), limits);
        let proxy = replica_with(&tables, None);
        assert_eq!(admitted(&[&proxy], 5), 3);
        assert!(is_connected(&proxy));
        assert!(redis.ask(&["KEYS", "*"]).contains(&format!("{{{host}:clients.search:requests:3600s:0}}")));
    }
    // Without the authority the server is not trusted.
    let refusing = tables(&format!("rediss://127.0.0.1:{port}"), "when_away = \"refuse\"", limits);
    let proxy = replica_with(&refusing, None);
    assert_eq!((ask(&proxy).status(), is_connected(&proxy)), (503, false));
}

#[test]
fn redis_asks_for_the_certificate_of_a_replica() {
    let (certificates, port) = (Certificates::new(), free_address().port());
    let _redis = certificates.server(port, "yes");
    for (client, expected) in [(Some("client"), 200), (Some("stranger"), 503), (None, 503)] {
        let more = format!("when_away = \"refuse\"\n{}", certificates.lines(client));
        let tables = tables(&format!("rediss://127.0.0.1:{port}"), &more, "{ requests = 9, per = \"hour\" }");
        let proxy = replica_with(&tables, None);
        assert_eq!((ask(&proxy).status(), is_connected(&proxy)), (expected, expected == 200), "{client:?}");
    }
}

#[test]
fn reload_changes_shared_limits_and_keeps_the_connection() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let path = ledgers.path("streamgauge.toml");
    let built = |limits: &str| {
        let tables = tables(&redis.url(), "", limits);
        proxy().tables(&tables).admin().ledger(&ledgers.path("one")).upstream(&up)
    };
    let first = built("{ requests = 10, per = \"day\" }, { tokens = 90000, per = \"minute\" }");
    fs::write(&path, first.text()).unwrap();
    let one = first.run_from(&path);
    let other = ledgers.replica("other", &tables(&redis.url(), "", "{ requests = 10, per = \"day\" }"));
    assert_eq!(admitted(&[&one, &other], 8), 8);
    let clients =
        || redis.ask(&["CLIENT", "LIST"]).lines().filter(|line| !line.contains("cmd=client")).count();
    until(PATIENCE, "both are connected", || (clients() == 2).then_some(()));
    // A larger amount, another place, a limit that is gone and new ones.
    let changed = "{ requests = 99, per = \"week\" }, { requests = 12, per = \"day\" }, { concurrent = 9 }";
    fs::write(&path, built(changed).text()).unwrap();
    one.reload();
    assert_eq!(admitted(&[&one], 9), 4, "12 less the 8 of both");
    until(PATIENCE, "all use is reported", || (reported(&redis, "day") == 12).then_some(()));
    until(PATIENCE, "the new limit is shared", || (reported(&redis, "week") >= 4).then_some(()));
    assert_eq!((clients(), is_connected(&one)), (2, true));
    assert_eq!(admitted(&[&other], 4), 0, "its limit is 10 still");
}

#[test]
fn rate_that_begins_again_gives_nothing_back() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let path = ledgers.path("streamgauge.toml");
    let text = |limits: &str| {
        let tables = tables(&redis.url(), "", limits);
        proxy().tables(&tables).admin().ledger(&ledgers.path("one")).upstream(&up)
    };
    let rate = "{ requests = 8, per = \"hour\" }";
    let first = text(rate);
    fs::write(&path, first.text()).unwrap();
    let one = first.run_from(&path);
    assert_eq!(admitted(&[&one], 6), 6);
    until(PATIENCE, "all use is reported", || (reported(&redis, "3600s") == 6).then_some(()));
    for limits in ["{ requests = 99, per = \"day\" }", rate] {
        fs::write(&path, text(limits).text()).unwrap();
        one.reload();
        ask(&one);
    }
    // The other one of the last two has passed after the reload.
    let begun = Instant::now();
    let mut more = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        more += admitted(&[&one], 1);
    }
    assert_eq!(more, 1);
}

#[test]
fn rate_whose_first_reply_is_lost_counts_its_use_once() {
    let (redis, link) = (Redis::start(), RedisLink::to_none());
    let one = replica_with(&tables(&link.url(), "", "{ requests = 8, per = \"hour\" }"), None);
    assert_eq!(admitted(&[&one], 3), 3, "without Redis");
    // The server that does not know the script gets it whole.
    link.lose_replies_from("\r\nEVAL\r\n");
    link.lead_to(&redis);
    until(PATIENCE, "the reply is lost", || link.has_lost_replies().then_some(()));
    until(PATIENCE, "it is connected", || is_connected(&one).then_some(()));
    until(PATIENCE, "a grant is known", || {
        (one.metric("streamgauge_redis_grants_total") > 0.0).then_some(())
    });
    assert_eq!((reported(&redis, "3600s"), admitted(&[&one], 8)), (3, 5));
}

#[test]
fn prefixes_of_one_server_are_fleets_of_their_own() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let limits = "{ requests = 3, per = \"day\" }, { tokens = 90000, per = \"minute\" }, { concurrent = 2 }";
    // Some are the beginning of another, or look like the keys of one.
    let prefixes =
        ["sg", "sg:", "sg:clients", "sg:clients.search", "sg:clients.search:requests:day:0", "s", "SG"];
    let replicas: Vec<Proxy> = prefixes
        .iter()
        .enumerate()
        .map(|(number, prefix)| {
            let more = format!("prefix = \"{prefix}\"");
            ledgers.replica(&number.to_string(), &tables(&redis.url(), &more, limits))
        })
        .collect();
    for (replica, prefix) in replicas.iter().zip(prefixes) {
        assert_eq!(admitted(&[replica], 5), 3, "{prefix}");
    }
    let keys = redis.ask(&["KEYS", "*"]);
    let periods = keys.lines().filter(|key| key.contains("requests:day:0}:")).count();
    assert_eq!(periods, prefixes.len(), "{keys}");
}

#[test]
fn replica_back_with_an_empty_ledger_forgives_nothing() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let tables = tables(&redis.url(), "", "{ requests = 10, per = \"day\" }");
    let one = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&one], 4), 4);
    one.stop();
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(ledgers.path(&format!("one{suffix}")));
    }
    let one = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&one], 3), 3);
    until(PATIENCE, "both ledgers count", || (reported(&redis, "day") == 7).then_some(()));
    one.stop();
    // The new ledger replaces what its own process before has reported, and no more.
    let one = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&one], 9), 3);
    until(PATIENCE, "all use is reported once", || (reported(&redis, "day") == 10).then_some(()));
}

#[test]
fn two_processes_with_one_ledger_count_each_request_once() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let tables = tables(&redis.url(), "", "{ requests = 20, per = \"day\" }");
    let begun = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&begun], 3), 3);
    begun.stop();
    // The ledger has 3 already when both start.
    let [old, new] = [(), ()].map(|()| ledgers.replica("one", &tables));
    assert_eq!((admitted(&[&old], 4), admitted(&[&new], 5)), (4, 5));
    until(PATIENCE, "all use is reported", || (reported(&redis, "day") == 12).then_some(()));
    old.stop();
    // The new one reports the whole ledger when it has read it. No sum in between is wrong.
    let reports_all = || {
        assert_eq!(reported(&redis, "day"), 12);
        let key = redis.ask(&["KEYS", "*:day:*"]);
        let fields = redis.ask(&["HGETALL", key.trim()]);
        let lines: Vec<_> = fields.lines().collect();
        lines.chunks(2).any(|pair| pair[0].starts_with("s:") && pair[1] == "12").then_some(())
    };
    until(PATIENCE, "the new one reports all of it", reports_all);
    assert_eq!(admitted(&[&new], 10), 8);
}
