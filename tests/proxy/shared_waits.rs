//! Turns of WebSockets, lists of models and further attempts wait for Redis like other requests: each
//! asks before it spends the last of a limit, so that replicas together admit exactly the limit.

use std::time::Instant;

use crate::harness::redis::Redis;
use crate::harness::{CHAT_BODY, PATIENCE, Proxy, Upstream, proxy, sized, until};
use crate::shared_limits::{AT_MOST, KEY, Ledgers, admitted, is_connected, reported, tables};
use crate::websocket::{BEGUN, DONE};
use crate::websocket_turns::{create, open, received, responding};

const JSON: &str = "application/json";

/// Two replicas with further tables and ledgers of their own.
fn replicas(ledgers: &Ledgers, up: Option<&Upstream>, tables: &str) -> [Proxy; 2] {
    ["one", "other"].map(|name| {
        let built = proxy().tables(tables).admin().ledger(&ledgers.path(name));
        match up {
            Some(up) => built.upstream(up).run(),
            None => built.run(),
        }
    })
}

/// Waits until each replica has asked a second time, so that it knows the other.
fn know_each_other(replicas: &[Proxy]) {
    for replica in replicas {
        until(PATIENCE, "it has renewed its grant", || {
            (replica.metric("streamgauge_redis_grants_total") >= 2.0).then_some(())
        });
    }
}

#[test]
fn turns_of_two_replicas_are_exactly_what_a_limit_allows() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let up = responding(&[BEGUN, DONE]);
    let tables = tables(&redis.url(), "", "{ requests = 12, per = \"day\" }");
    let replicas = replicas(&ledgers, Some(&up), &tables);
    know_each_other(&replicas);
    let mut sessions = replicas.each_ref().map(|replica| open(replica, "/v1/realtime?model=m"));
    let mut turns = 0;
    for index in 0..20 {
        let session = sessions[index % 2].send(create());
        let event = received(session);
        if event["type"] == "response.created" {
            assert_eq!(received(session)["type"], "response.done");
            turns += 1;
        } else {
            assert_eq!(event["type"], "error", "{event}");
        }
    }
    assert_eq!(turns, 12);
    until(PATIENCE, "all turns are reported", || (reported(&redis, "day") == 12).then_some(()));
}

#[test]
fn frozen_redis_delays_a_turn_by_50_ms_at_most() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let up = responding(&[BEGUN, DONE]);
    let tables = tables(&redis.url(), "", "{ requests = 40, per = \"day\" }");
    let replicas = replicas(&ledgers, Some(&up), &tables);
    know_each_other(&replicas);
    let mut session = open(&replicas[0], "/v1/realtime?model=m");
    redis.freeze();
    for turn in 0..10 {
        let begun = Instant::now();
        session.send(create());
        assert_eq!(received(&mut session)["type"], "response.created", "{turn}");
        assert!(begun.elapsed() < AT_MOST, "{turn}: {:?}", begun.elapsed());
        received(&mut session);
    }
    redis.thaw();
    until(PATIENCE, "it is connected again", || is_connected(&replicas[0]).then_some(()));
}

#[test]
fn lists_of_models_at_two_replicas_are_exactly_as_many() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let list = br#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;
    let up = Upstream::responding(sized("200 OK", JSON, list));
    let tables = format!(
        "{}[upstreams.other]\nprovider = \"other\"\nurl = \"http://{}/v1\"\napi_key = \"none\"\n\
         default_model = \"m\"\n[[routes]]\nmodel = \"x\"\nupstream = \"other\"\n[[routes]]\nupstream = \"up\"\n",
        tables(&redis.url(), "", "{ requests = 12, per = \"day\" }"),
        up.address
    );
    let replicas = replicas(&ledgers, Some(&up), &tables);
    know_each_other(&replicas);
    let request =
        format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\r\n");
    let list = |replica: &Proxy| replica.client().send(&request).response().status();
    let first: Vec<_> = (0..14).map(|_| list(&replicas[0])).collect();
    // The last that the other one has heard of is that all are left.
    let other: Vec<_> = (0..4).map(|_| list(&replicas[1])).collect();
    let admitted = [&first[..], &other].concat().into_iter().filter(|status| *status == 200).count();
    assert_eq!(admitted, 12, "{first:?} {other:?}");
}

#[test]
fn further_attempts_at_a_member_are_exactly_as_many() {
    let (redis, ledgers) = (Redis::start(), Ledgers::new());
    let failing = Upstream::responding(sized("503 Service Unavailable", JSON, b"{}"));
    let good = Upstream::responding(sized("200 OK", JSON, CHAT_BODY.as_bytes()));
    let upstream = |name: &str, up: &Upstream| {
        format!(
            "[upstreams.{name}]\nprovider = \"other\"\nurl = \"http://{}/v1\"\napi_key = \"none\"\n\
             default_model = \"m\"\n",
            up.address
        )
    };
    let limits = "{ requests = 12, per = \"day\", upstream = \"b\" }";
    let tables = format!(
        "{}{}[groups.chat]\ntiers = [[\"a\"], [\"b\"]]\nretry = {{ budget = 1.0 }}\n\
         [groups.chat.breaker]\nfailures = 0\nsuccess_rate = 0.0\n[[routes]]\nupstream = \"chat\"\n{}",
        upstream("a", &failing),
        upstream("b", &good),
        tables(&redis.url(), "", limits)
    );
    let replicas = replicas(&ledgers, None, &tables);
    know_each_other(&replicas);
    assert_eq!(admitted(&[&replicas[0], &replicas[1]], 20), 12);
    until(PATIENCE, "all use is reported", || (reported(&redis, "day") == 12).then_some(()));
}
