//! Limits that replicas share through a real Redis.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::redis::Redis;
use crate::harness::{
    EVENTS_HEAD, PATIENCE, Proxy, Response, Upstream, chunk, free_address, proxy, sized, until, upstream,
};

const COMPLETION: &[u8] = br#"{"model":"m","choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100}}"#;

pub const KEY: &str = "sg-search-0123456789";

/// The longest wait for Redis, and what a busy machine adds.
pub const AT_MOST: Duration = Duration::from_millis(50 + 500);

/// The tables of replicas that share `limits`.
pub fn tables(url: &str, more: &str, limits: &str) -> String {
    format!(
        "[redis]\nurl = {{ value = \"{url}\" }}\n{more}\n[clients.search]\nkey = {{ value = \"{KEY}\" }}\nlimits = [{limits}]\n"
    )
}

/// A replica whose upstream responds with 100 tokens.
pub fn replica_with(tables: &str, ledger: Option<&Path>) -> Proxy {
    let up = Upstream::responding(sized("200 OK", "application/json", COMPLETION));
    let built = proxy().upstream(&up).tables(tables).admin();
    let built = match ledger {
        Some(path) => built.ledger(path),
        None => built,
    };
    built.run()
}

/// A folder with ledgers.
pub struct Ledgers(tempfile::TempDir);

impl Ledgers {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn replica(&self, name: &str, tables: &str) -> Proxy {
        replica_with(tables, Some(&self.0.path().join(name)))
    }
}

pub fn request(body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub fn ask(proxy: &Proxy) -> Response {
    let body = r#"{"model":"m","max_tokens":50,"messages":[{"role":"user","content":"Hello"}]}"#;
    proxy.client().send(request(body)).response()
}

/// The number of requests of `count` that are admitted, in turn by each of the replicas.
pub fn admitted(replicas: &[&Proxy], count: usize) -> usize {
    let statuses = (0..count).map(|index| ask(replicas[index % replicas.len()]).status());
    statuses.filter(|status| *status == 200).count()
}

/// Asks until `count` requests are admitted, and then some more, which are refused. After Redis has
/// lost its state, the last of what is left is granted when all have reported.
pub fn admit_exactly(replicas: &[&Proxy], count: usize) {
    let mut sum = 0;
    until(PATIENCE, "all that is left is admitted", || {
        sum += admitted(replicas, replicas.len());
        (sum >= count).then_some(())
    });
    assert_eq!(sum + admitted(replicas, 6), count);
}

/// The sum that all instances have reported of the only key that contains `part`.
pub fn reported(redis: &Redis, part: &str) -> u64 {
    let keys = redis.ask(&["KEYS", &format!("*{part}*")]);
    let Some(key) = keys.lines().next() else { return 0 };
    let fields = redis.ask(&["HGETALL", key]);
    let lines: Vec<_> = fields.lines().collect();
    let spent = lines.chunks(2).filter(|pair| pair[0].starts_with("s:"));
    spent.map(|pair| pair[1].parse::<u64>().unwrap()).sum()
}

pub fn is_connected(proxy: &Proxy) -> bool {
    proxy.metric("streamgauge_redis_connected") == 1.0
}

#[test]
fn replicas_admit_together_what_a_period_allows() {
    let redis = Redis::start();
    let ledgers = Ledgers::new();
    let tables = tables(&redis.url(), "", "{ requests = 10, per = \"day\" }");
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    assert_eq!(admitted(&[&one, &other], 16), 10);
    // Before all replicas have reported, what is granted to others may be given back.
    let refused = until(PATIENCE, "the quota is used up", || {
        let refused = ask(&one);
        (refused.error()["code"] == "insufficient_quota").then_some(refused)
    });
    assert_eq!(refused.status(), 429);
    assert!(refused.text().contains("10 of 10 requests"), "{}", refused.text());
    assert!(is_connected(&one) && one.metric("streamgauge_redis_grants_total") > 0.0);
    assert!(one.metric("streamgauge_redis_grant_seconds_count") > 0.0);
    until(PATIENCE, "all use is reported", || (reported(&redis, "day") == 10).then_some(()));
}

#[test]
fn tokens_of_other_replicas_count() {
    let redis = Redis::start();
    let ledgers = Ledgers::new();
    let tables = tables(&redis.url(), "", "{ tokens = 500, per = \"day\" }");
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    // Each holds about 70 tokens and uses 100.
    let count = admitted(&[&one, &other], 12);
    assert!((4..=5).contains(&count), "{count}");
}

#[test]
fn restarted_replica_reports_its_ledger_and_a_new_one_nothing() {
    let redis = Redis::start();
    let ledgers = Ledgers::new();
    let tables = tables(&redis.url(), "", "{ requests = 10, per = \"day\" }");
    let one = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&one], 4), 4);
    one.stop();
    // With its own ledger.
    let one = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&one], 2), 2);
    until(PATIENCE, "the ledger's use is reported once", || (reported(&redis, "day") == 6).then_some(()));
    one.stop();
    // With an empty one.
    let new = ledgers.replica("new", &tables);
    assert_eq!(admitted(&[&new], 8), 4);
}

#[test]
fn emptied_redis_has_the_sums_again_within_two_seconds() {
    let redis = Redis::start();
    let ledgers = Ledgers::new();
    let tables = tables(&redis.url(), "", "{ requests = 10, per = \"day\" }");
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    assert_eq!(admitted(&[&one, &other], 6), 6);
    until(PATIENCE, "all use is reported", || (reported(&redis, "day") == 6).then_some(()));
    redis.ask(&["FLUSHALL"]);
    let begun = Instant::now();
    until(PATIENCE, "the sums are back", || (reported(&redis, "day") == 6).then_some(()));
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
    admit_exactly(&[&one, &other], 4);
}

#[test]
fn replicas_share_the_bucket_of_a_rate() {
    let redis = Redis::start();
    let ledgers = Ledgers::new();
    let tables = tables(&redis.url(), "", "{ requests = 8, per = \"hour\" }");
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    assert_eq!(admitted(&[&one, &other], 14), 8);
    let refused = ask(&other);
    // 450 s for the next request.
    assert_eq!((refused.status(), refused.error()["code"].as_str()), (429, Some("rate_limit_exceeded")));
    assert!(refused.text().contains("There is room again in 4"), "{}", refused.text());
}

#[test]
fn request_larger_than_the_bucket_is_admitted_when_it_is_full() {
    let redis = Redis::start();
    let ledgers = Ledgers::new();
    let tables = tables(&redis.url(), "", "{ tokens = 10000, per = \"minute\" }");
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    // Both keep a part of the bucket in reserve.
    for proxy in [&one, &other] {
        until(PATIENCE, "it is granted its part", || {
            (proxy.metric("streamgauge_redis_grants_total") >= 3.0).then_some(())
        });
    }
    let body = format!(
        r#"{{"model":"m","max_tokens":50,"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "word ".repeat(20_000)
    );
    let response = one.client().send(request(&body)).response();
    assert_eq!(response.status(), 200, "{}", response.text());
}

#[test]
fn crash_of_a_replica_forgives_no_use_of_a_rate() {
    let redis = Redis::start();
    let ledgers = Ledgers::new();
    let tables = tables(&redis.url(), "", "{ requests = 8, per = \"hour\" }");
    let one = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&one], 2), 2);
    one.stop();
    let key = "{streamgauge:clients.search:requests:3600s:0}";
    let fields = redis.ask(&["HKEYS", key]);
    let granted = fields.lines().find(|field| field.starts_with("g:")).expect("it was granted some");
    // State that a process leaves which could not report.
    redis.ask(&["HSET", key, granted, "4 0 9999999999999"]);
    let one = ledgers.replica("one", &tables);
    assert_eq!(admitted(&[&one], 6), 2);
}

#[test]
fn fields_of_replicas_that_are_gone_are_deleted() {
    let redis = Redis::start();
    let tables = tables(&redis.url(), "", "{ concurrent = 3 }");
    let _one = replica_with(&tables, None);
    let key = until(PATIENCE, "it is granted some", || {
        redis.ask(&["KEYS", "*"]).lines().next().filter(|key| !key.is_empty()).map(str::to_owned)
    });
    redis.ask(&["HSET", &key, "s:gone/gone", "0", "g:gone/gone", "1 0 1"]);
    until(PATIENCE, "it is forgotten", || (!redis.ask(&["HKEYS", &key]).contains("gone")).then_some(()));
}

#[test]
fn replicas_share_the_permits_of_running_requests() {
    let redis = Redis::start();
    let tables = tables(&redis.url(), "", "{ concurrent = 3 }");
    let up = upstream(|connection| {
        if connection.request().is_some() {
            connection.send(EVENTS_HEAD);
            connection.send(chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"));
            // Until the proxy leaves.
            connection.request();
        }
    });
    let [one, other] = [(), ()].map(|()| proxy().upstream(&up).tables(&tables).admin().run());
    let begin = |proxy: &Proxy| {
        let mut client = proxy.client();
        client.send(request(r#"{"model":"m","stream":true,"messages":[]}"#));
        let head = client.head();
        (client, head.starts_with("HTTP/1.1 200"))
    };
    let mut running: Vec<_> = [&one, &other, &one].map(begin).into();
    assert!(running.iter().all(|(_, is_admitted)| *is_admitted));
    assert!(!begin(&one).1 && !begin(&other).1);
    drop(running.pop());
    // Its place is free at the other replica too.
    until(PATIENCE, "there is a place", || Some(begin(&other)).filter(|(_, is_admitted)| *is_admitted));
}

/// A server that is away from the start: nothing listens there.
fn nowhere() -> String {
    format!("redis://{}", free_address())
}

#[test]
fn replica_starts_without_redis_and_does_as_when_away_says() {
    for (when_away, limit, expected) in [("local", 3, 3), ("allow", 3, 6), ("refuse", 3, 0)] {
        let limits = format!("{{ requests = {limit}, per = \"hour\" }}");
        let proxy = replica_with(&tables(&nowhere(), &format!("when_away = \"{when_away}\""), &limits), None);
        assert_eq!(admitted(&[&proxy], 6), expected, "{when_away}");
        assert!(!is_connected(&proxy));
        if when_away == "refuse" {
            let refused = ask(&proxy);
            assert_eq!(
                (refused.status(), refused.error()["code"].as_str()),
                (503, Some("limits_unavailable"))
            );
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
    }
}

#[test]
fn frozen_redis_delays_no_request_beyond_its_wait() {
    let redis = Redis::start();
    let ledgers = Ledgers::new();
    let tables = tables(&redis.url(), "", "{ requests = 20, per = \"day\" }");
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    assert_eq!(admitted(&[&one, &other], 4), 4);
    until(PATIENCE, "all use is reported", || (reported(&redis, "day") == 4).then_some(()));
    redis.freeze();
    let mut admitted = 0;
    for index in 0..24 {
        let begun = Instant::now();
        let status = ask([&one, &other][index % 2]).status();
        assert!(begun.elapsed() < AT_MOST, "{:?}", begun.elapsed());
        admitted += usize::from(status == 200);
    }
    // Each has its part of the 16 that were left.
    assert!((12..=16).contains(&admitted), "{admitted}");
    redis.thaw();
    until(PATIENCE, "the sums are right", || (reported(&redis, "day") == 4 + admitted as u64).then_some(()));
    until(PATIENCE, "both are connected", || (is_connected(&one) && is_connected(&other)).then_some(()));
    admit_exactly(&[&one, &other], 16 - admitted);
}

#[test]
fn killed_redis_comes_back_empty_and_has_all_sums() {
    let mut redis = Redis::start();
    let ledgers = Ledgers::new();
    let tables = tables(&redis.url(), "", "{ requests = 20, per = \"day\" }");
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    assert_eq!(admitted(&[&one, &other], 4), 4);
    redis.kill();
    let meanwhile = admitted(&[&one, &other], 24);
    assert!(meanwhile <= 16, "{meanwhile}");
    redis.resume();
    until(PATIENCE, "the sums are right", || (reported(&redis, "day") == 4 + meanwhile as u64).then_some(()));
    admit_exactly(&[&one, &other], 16 - meanwhile);
}

#[test]
fn replica_that_started_without_redis_has_its_part_at_once() {
    let mut redis = Redis::start();
    redis.kill();
    let ledgers = Ledgers::new();
    let proxy = ledgers.replica("one", &tables(&redis.url(), "", "{ requests = 100, per = \"day\" }"));
    assert_eq!(admitted(&[&proxy], 2), 2);
    redis.resume();
    until(PATIENCE, "it is connected", || is_connected(&proxy).then_some(()));
    assert_eq!(admitted(&[&proxy], 10), 10);
    until(PATIENCE, "all use is reported", || (reported(&redis, "day") == 12).then_some(()));
}

#[test]
fn wrong_type_and_missing_password_count_as_away() {
    let redis = Redis::start_with("requirepass secret");
    let limits = "{ requests = 3, per = \"hour\" }";
    let proxy = replica_with(&tables(&redis.url(), "when_away = \"refuse\"", limits), None);
    assert_eq!(ask(&proxy).status(), 503);
    let url = format!("redis://:secret@127.0.0.1:{}", redis.port());
    let known = replica_with(&tables(&url, "when_away = \"refuse\"", limits), None);
    assert_eq!(ask(&known).status(), 200);
    redis.ask(&["-a", "secret", "SET", "{other:clients.search:requests:3600s:0}", "text"]);
    let broken = replica_with(&tables(&url, "when_away = \"refuse\"\nprefix = \"other\"", limits), None);
    assert_eq!(ask(&broken).status(), 503);
}

#[test]
fn redis_is_reached_through_its_socket() {
    let redis = Redis::start();
    let url = format!("unix://{}?db=3", redis.socket().display());
    let proxy = replica_with(&tables(&url, "", "{ requests = 3, per = \"hour\" }"), None);
    assert_eq!(admitted(&[&proxy], 5), 3);
    assert!(redis.ask(&["-n", "3", "KEYS", "*"]).contains("{streamgauge:clients.search:requests:3600s:0}"));
}

#[test]
fn cluster_keeps_each_limit_at_its_node() {
    let nodes = Redis::cluster();
    let limits = "{ requests = 5, per = \"hour\" }, { requests = 4, per = \"day\" }, { tokens = 9000, per = \"minute\" }, \
                  { tokens = 9000, per = \"month\" }, { concurrent = 3 }";
    let ledgers = Ledgers::new();
    let replicas: Vec<_> = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| ledgers.replica(&index.to_string(), &tables(&node.url(), "", limits)))
        .collect();
    assert_eq!(admitted(&replicas.iter().collect::<Vec<_>>(), 9), 4);
    assert!(replicas.iter().all(is_connected));
    let kept = nodes.iter().filter(|node| !node.ask(&["KEYS", "*"]).trim().is_empty());
    assert!(kept.count() > 1, "the limits are at several nodes");
}

#[test]
fn sentinels_lead_to_the_new_primary_after_a_failover() {
    let mut primary = Redis::start();
    let replica = Redis::start_with(&format!("replicaof 127.0.0.1 {}", primary.port()));
    let sentinel = Redis::sentinel(&primary);
    until(PATIENCE, "the sentinel knows the replica", || {
        sentinel
            .ask(&["SENTINEL", "REPLICAS", "mymaster"])
            .contains(&replica.port().to_string())
            .then_some(())
    });
    let ledgers = Ledgers::new();
    let tables = tables(&sentinel.url(), "sentinel = \"mymaster\"", "{ requests = 20, per = \"day\" }");
    let [one, other] = ["one", "other"].map(|name| ledgers.replica(name, &tables));
    assert_eq!(admitted(&[&one, &other], 4), 4);
    primary.kill();
    until(PATIENCE, "the new primary has the sums", || {
        (replica.ask(&["ROLE"]).starts_with("master") && reported(&replica, "day") == 4).then_some(())
    });
    until(PATIENCE, "both are connected", || (is_connected(&one) && is_connected(&other)).then_some(()));
    admit_exactly(&[&one, &other], 16);
}
