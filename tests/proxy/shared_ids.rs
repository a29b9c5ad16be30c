//! Ids of stored state that replicas share through a real Redis.

use std::time::Instant;

use serde_json::json;

use crate::harness::proxy::Builder;
use crate::harness::redis::Redis;
use crate::harness::redis_link::RedisLink;
use crate::harness::{PATIENCE, Proxy, Response, until};
use crate::shared_limits::{AT_MOST, is_connected};
use crate::stored_ids::{
    Accounts, TWO_CLIENTS, accounts, body, create, get, id_of, of_client, post, served_at_once, session,
};

const PATH: &str = "/v1/responses";

const SCRIPT: &str = include_str!("../../src/sinks/redis/pin.lua");

fn shared(built: Builder, redis: &Redis, more: &str) -> Proxy {
    shared_at(built, &redis.url(), more)
}

fn shared_at(built: Builder, url: &str, more: &str) -> Proxy {
    let lines = format!("[redis]\nurl = {{ value = \"{url}\" }}\n{more}\n");
    let proxy = built.tables(&lines).admin().run();
    until(PATIENCE, "it is connected", || is_connected(&proxy).then_some(()));
    proxy
}

fn replicas(accounts: &Accounts, redis: &Redis, more: &str) -> [Proxy; 2] {
    [(), ()].map(|()| shared(accounts.group(), redis, more))
}

/// The number of ids that Redis has.
fn written(redis: &Redis) -> usize {
    let keys = redis.ask(&["KEYS", "{streamgauge:ids:*}:??"]);
    let count = |key: &str| redis.ask(&["HLEN", key]).trim().parse::<usize>().unwrap();
    keys.lines().filter(|key| !key.is_empty()).map(count).sum()
}

/// Waits until the ids of a further response are written.
fn until_written(redis: &Redis, before: usize) {
    let mut last = before;
    until(PATIENCE, "the ids are written", || {
        let now = written(redis);
        (std::mem::replace(&mut last, now) == now && now > before).then_some(())
    });
}

#[test]
fn conversation_goes_on_through_another_replica() {
    let (accounts, redis) = (accounts(), Redis::start());
    let [one, other] = replicas(&accounts, &redis, "");
    for _ in 0..6 {
        let before = written(&redis);
        let first = post(&one, &body("m", None));
        let (id, member) = (id_of(&first), served_at_once(&first).to_owned());
        until_written(&redis, before);
        // Chance would decide in a half of the cases.
        assert_eq!(served_at_once(&post(&other, &body("m", Some(&id)))), member);
        assert_eq!(served_at_once(&get(&other, &format!("{PATH}/{id}"))), member);
    }
    // A replica that starts later, with nothing of its own.
    let before = written(&redis);
    let first = post(&other, &body("m", None));
    let (id, member) = (id_of(&first), served_at_once(&first).to_owned());
    until_written(&redis, before);
    let late = shared(accounts.group(), &redis, "");
    assert_eq!(served_at_once(&get(&late, &format!("{PATH}/{id}"))), member);
}

#[test]
fn id_of_another_client_is_not_found_at_any_replica() {
    let (accounts, redis) = (accounts(), Redis::start());
    let [one, other] = replicas(&accounts, &redis, TWO_CLIENTS);
    let send = |proxy: &Proxy, client: &str, line: &str, body: &str| -> Response {
        proxy.client().send(of_client(client, line, "", body.as_bytes())).response()
    };
    let create = format!("POST {PATH}");
    let id = id_of(&send(&one, "alice", &create, &body("m", None).to_string()));
    until_written(&redis, 0);
    let named = body("m", Some(&id)).to_string();
    let show = format!("GET {PATH}/{id}");
    for (line, body) in [(&create, &*named), (&show, ""), (&format!("DELETE {PATH}/{id}"), "")] {
        let refused = send(&other, "bob", line, body);
        assert_eq!((refused.status(), &refused.error()["code"]), (404, &json!("id_not_found")), "{line}");
    }
    let shown = send(&other, "alice", &show, "");
    assert_eq!((shown.status(), send(&other, "alice", &create, &named).status()), (200, 200));
    assert_eq!(send(&other, "bob", &show, "").status(), 404, "also when it is known there");
}

#[test]
fn id_behind_many_unknown_ones_is_not_passed() {
    let (accounts, redis) = (accounts(), Redis::start());
    let [one, other] = replicas(&accounts, &redis, TWO_CLIENTS);
    let send = |proxy: &Proxy, client: &str, body: &str| -> Response {
        let request = of_client(client, &format!("POST {PATH}"), "", body.as_bytes());
        proxy.client().send(request).response()
    };
    let id = id_of(&send(&one, "alice", &body("m", None).to_string()));
    until_written(&redis, 0);
    let items = |name: &dyn Fn(usize) -> String| -> Vec<_> {
        (0..300).map(|number| json!({"type": "item_reference", "id": name(number)})).collect()
    };
    let with = |items| {
        let mut named = body("m", Some(&id));
        named["input"] = json!(items);
        named.to_string()
    };
    let [repeated, different] = [
        with(items(&|_| "msg_unknown_0".to_owned())),
        with(items(&|number| format!("msg_unknown_{number}"))),
    ];
    for named in [&repeated, &different] {
        let refused = send(&other, "bob", named);
        assert_eq!((refused.status(), &refused.error()["code"]), (404, &json!("id_not_found")));
    }
}

#[test]
fn list_hides_no_owner_that_another_replica_knows() {
    let (accounts, redis) = (accounts(), Redis::start());
    let [one, other] = replicas(&accounts, &redis, TWO_CLIENTS);
    let send = |proxy: &Proxy, client: &str, line: &str, body: &str| -> Response {
        proxy.client().send(of_client(client, line, "", body.as_bytes())).response()
    };
    redis.freeze();
    let id = id_of(&send(&one, "alice", &format!("POST {PATH}"), &body("m", None).to_string()));
    let show = format!("GET {PATH}/{id}");
    // The owner is unknown, since Redis does not respond, and the response shows the id.
    let begun = Instant::now();
    let _ = send(&other, "bob", &show, "");
    assert!(begun.elapsed() < AT_MOST, "{:?}", begun.elapsed());
    redis.thaw();
    until_written(&redis, 0);
    until(PATIENCE, "it is connected", || is_connected(&other).then_some(()));
    until(PATIENCE, "it is known whose it is", || {
        (send(&other, "bob", &show, "").status() == 404).then_some(())
    });
}

#[test]
fn first_message_of_a_session_waits_for_the_owner_of_its_id() {
    let (accounts, redis) = (accounts(), Redis::start());
    let [one, other] = replicas(&accounts, &redis, TWO_CLIENTS);
    let request = of_client("alice", &format!("POST {PATH}"), "", body("m", None).to_string().as_bytes());
    let named = create(body("m", Some(&id_of(&one.client().send(request).response()))));
    until_written(&redis, 0);
    let late = shared(accounts.group(), &redis, TWO_CLIENTS);
    // Neither replica knows the id.
    let mut bob = session(&other, "bob");
    let rest = bob.send(named.clone()).rest();
    assert_eq!(rest.get(2..4), Some(&1008_u16.to_be_bytes()[..]), "{}", rest.escape_ascii());
    assert_eq!(other.metric("streamgauge_redis_id_lookups_total{result=\"found\"}"), 1.0);
    let mut alice = session(&late, "alice");
    assert_eq!(alice.send(named).read(1), [0x81], "a message of the service");
    // Nothing is known of it anywhere.
    let mut next = session(&late, "alice");
    redis.freeze();
    let begun = Instant::now();
    next.send(create(body("m", Some("resp_0123456789abcdef0123456789abcdef"))));
    assert_eq!(next.read(1), [0x81]);
    assert!(begun.elapsed() < AT_MOST, "{:?}", begun.elapsed());
    redis.thaw();
}

#[test]
fn ids_are_written_again_to_an_emptied_redis() {
    let (accounts, redis) = (accounts(), Redis::start());
    let one = shared(accounts.group(), &redis, TWO_CLIENTS);
    let send = |proxy: &Proxy, client: &str, line: &str, body: &str| -> Response {
        proxy.client().send(of_client(client, line, "", body.as_bytes())).response()
    };
    let create = format!("POST {PATH}");
    let id = id_of(&send(&one, "alice", &create, &body("m", None).to_string()));
    until_written(&redis, 0);
    let before = written(&redis);
    until(PATIENCE, "it has its marks", || {
        redis.ask(&["KEYS", "*:writer:*"]).contains("ids:f0}").then_some(())
    });
    redis.ask(&["FLUSHALL"]);
    until(PATIENCE, "all ids are back", || (written(&redis) == before).then_some(()));
    let rewritten = "streamgauge_redis_id_writes_total{result=\"rewritten\"}";
    until(PATIENCE, "they are counted", || (one.metric(rewritten) == before as f64).then_some(()));
    let late = shared(accounts.group(), &redis, TWO_CLIENTS);
    assert_eq!(send(&late, "bob", &format!("GET {PATH}/{id}"), "").status(), 404);
    assert_eq!(send(&late, "alice", &format!("GET {PATH}/{id}"), "").status(), 200);
}

#[test]
fn last_ids_are_written_again_to_a_replica_that_lacks_them() {
    let (accounts, primary, replica) = (accounts(), Redis::start(), Redis::start());
    replica.ask(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    let link = RedisLink::to_none();
    link.lead_to(&primary);
    let one = shared_at(accounts.group(), &link.url(), "");
    let marks = |redis: &Redis| redis.ask(&["KEYS", "*:writer:*"]).lines().count();
    (0..4).for_each(|_| drop(post(&one, &body("m", None))));
    until_written(&primary, 0);
    let before = written(&primary);
    until(PATIENCE, "the replica has all, with the marks", || {
        (written(&replica) == before && marks(&replica) >= 16).then_some(())
    });
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    let last = post(&one, &body("m", None));
    let (id, member) = (id_of(&last), served_at_once(&last).to_owned());
    until_written(&primary, before);
    let all = written(&primary);
    assert_eq!(written(&replica), before);
    link.lead_to(&replica);
    until(PATIENCE, "the last ids are back", || (written(&replica) == all).then_some(()));
    let late = shared(accounts.group(), &replica, "");
    assert_eq!(served_at_once(&get(&late, &format!("{PATH}/{id}"))), member);
}

#[test]
fn refused_ids_are_counted_and_written_when_they_are_taken() {
    let (accounts, redis) = (accounts(), Redis::start());
    let [one, _other] = replicas(&accounts, &redis, "");
    // Reads go on.
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let first = post(&one, &body("m", None));
    let refused = "streamgauge_redis_id_writes_total{result=\"refused\"}";
    until(PATIENCE, "it is refused", || (one.metric(refused) > 0.0).then_some(()));
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    until_written(&redis, 0);
    let written = one.metric("streamgauge_redis_id_writes_total{result=\"written\"}");
    assert!(written > 0.0 && !id_of(&first).is_empty());
}

#[test]
fn ids_are_shared_through_all_nodes_of_a_cluster() {
    let (accounts, nodes) = (accounts(), Redis::cluster());
    let [one, other] = [0, 1].map(|node| shared(accounts.group(), &nodes[node], TWO_CLIENTS));
    let send = |proxy: &Proxy, client: &str, line: &str, body: &str| -> Response {
        proxy.client().send(of_client(client, line, "", body.as_bytes())).response()
    };
    let all = || nodes.iter().map(written).collect::<Vec<_>>();
    let mut ids = Vec::new();
    until(PATIENCE, "each node has some", || {
        ids.push(id_of(&send(&one, "alice", &format!("POST {PATH}"), &body("m", None).to_string())));
        all().iter().all(|count| *count > 0).then_some(())
    });
    // The last ones are on their way.
    let mut last = 0;
    until(PATIENCE, "all are written", || {
        let now = all().iter().sum();
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
    for id in &ids {
        let show = format!("GET {PATH}/{id}");
        assert_eq!(send(&other, "bob", &show, "").status(), 404, "{id}");
        assert_eq!(send(&other, "alice", &show, "").status(), 200, "{id}");
    }
    until(PATIENCE, "each node has its marks", || {
        nodes.iter().all(|node| node.ask(&["KEYS", "*:writer:*"]).contains("writer")).then_some(())
    });
    let before = all();
    nodes[2].ask(&["FLUSHALL"]);
    until(PATIENCE, "the node has its ids again", || (all() == before).then_some(()));
}

#[test]
fn requests_with_unknown_ids_are_decided_while_redis_is_away() {
    for (when_away, expected) in [("local", 200), ("allow", 200), ("refuse", 503)] {
        let (accounts, mut redis) = (accounts(), Redis::start());
        let more = format!("when_away = \"{when_away}\"\n{TWO_CLIENTS}");
        let [one, other] = replicas(&accounts, &redis, &more);
        let create = |proxy: &Proxy, body: &str| {
            proxy.client().send(of_client("alice", &format!("POST {PATH}"), "", body.as_bytes())).response()
        };
        let id = id_of(&create(&one, &body("m", None).to_string()));
        redis.kill();
        until(PATIENCE, "it is away", || (!is_connected(&other)).then_some(()));
        let begun = Instant::now();
        let next = create(&other, &body("m", Some(&id)).to_string());
        assert_eq!(next.status(), expected, "{when_away}");
        assert!(begun.elapsed() < AT_MOST);
        // Nothing is asked about an id that is known, or where there is none.
        assert_eq!(create(&one, &body("m", Some(&id)).to_string()).status(), 200);
        assert_eq!(create(&other, &body("m", None).to_string()).status(), 200);
        if when_away == "refuse" {
            assert_eq!(next.error()["code"], "limits_unavailable");
        }
        redis.resume();
    }
}

#[test]
fn ids_that_pass_while_redis_is_away_are_written_later() {
    let (accounts, mut redis) = (accounts(), Redis::start());
    let [one, other] = replicas(&accounts, &redis, "");
    redis.kill();
    until(PATIENCE, "it is away", || (!is_connected(&one)).then_some(()));
    let first = post(&one, &body("m", None));
    let (id, member) = (id_of(&first), served_at_once(&first).to_owned());
    redis.resume();
    until_written(&redis, 0);
    until(PATIENCE, "it is connected", || is_connected(&other).then_some(()));
    assert_eq!(served_at_once(&get(&other, &format!("{PATH}/{id}"))), member);
}

#[test]
fn script_keeps_a_bounded_number_of_ids_and_their_first_client() {
    let redis = Redis::start();
    let write = |id: &str, client: &str, account: &str| {
        redis.ask(&["EVAL", SCRIPT, "2", "key", "mark", id, client, account, "64", "100", "7", "9"]);
    };
    (0..200).for_each(|id| write(&id.to_string(), "a", "1"));
    assert_eq!(redis.ask(&["HLEN", "key"]).trim(), "64");
    assert!(!redis.ask(&["HGET", "key", "199"]).trim().is_empty(), "the newest stays");
    assert_eq!(redis.ask(&["GET", "mark"]).trim(), "7");
    let ttl: u32 = redis.ask(&["TTL", "key"]).trim().parse().unwrap();
    assert!((90..=100).contains(&ttl), "{ttl}");
    // The owner and the account after each write: see the table of a process.
    let cases = [
        ("0", "1", "0 1"),
        ("b", "1", "b 1"),
        ("0", "1", "b 1"),
        ("c", "1", "b 1"),
        ("0", "2", "b 1"),
        ("c", "2", "c 2"),
    ];
    for (client, account, expected) in cases {
        write("199x", client, account);
        let value = redis.ask(&["HGET", "key", "199x"]);
        assert!(value.starts_with(&format!("{expected} ")), "{client} {account}: {value}");
    }
}
