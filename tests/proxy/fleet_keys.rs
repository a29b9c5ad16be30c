//! Stored keys of a fleet in a real PostgreSQL: one instance makes them, the others take them over.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::postgres::Server;
use crate::harness::{Client, Program, Serving, free_address, until};
use crate::key_commands::{ask, id, keys, line};

/// The time within which a change of the stored keys takes effect on every instance.
const SOON: Duration = Duration::from_secs(2);

/// The time for what waits for the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// The token of the admin pages.
const TOKEN: &str = "the-admin-token-of-the-test";

const OWN_KEY: &str = "own-key-0123456789";

/// An instance whose keys are in the database.
fn instance(server: &Server) -> Program {
    instance_at("127.0.0.1:0", server)
}

/// The same, with its admin pages at this address.
fn instance_at(admin: &str, server: &Server) -> Program {
    Program::with_admin(
        &format!("listen = \"{admin}\"\ntoken = {{ value = \"{TOKEN}\" }}"),
        &format!(
            "path = \"usage.db\"\n[ledger.postgres]\nurl = {{ value = \"{}\" }}\n[keys]\nstore = \"postgres\"\n\
             [clients.search]\n[clients.support]\nkey = {{ value = \"{OWN_KEY}\" }}\n",
            server.url()
        ),
    )
}

/// The output of `streamgauge keys`, which must succeed.
fn run(program: &Program, arguments: &[&str]) -> String {
    line(keys(program, arguments).output().unwrap())
}

fn migrate(program: &Program) -> String {
    let output = program.command(&["ledger", "migrate"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn status(serving: &Serving, key: &str) -> u16 {
    ask(&mut Client::connect(serving.address), key).status()
}

/// Waits until requests with the key have this status. Few are sent, since many refused ones would
/// be delayed.
fn wait_for(serving: &Serving, key: &str, expected: u16, patience: Duration) {
    until(patience, "the change of the key", || {
        thread::sleep(Duration::from_millis(100));
        (status(serving, key) == expected).then_some(())
    });
}

fn end(serving: Serving) -> Vec<String> {
    serving.signal("-TERM");
    serving.end()
}

fn lines(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn key_made_on_one_instance_is_taken_by_the_other() {
    let server = Server::start();
    let programs = [instance(&server), instance(&server)];
    assert!(migrate(&programs[0]).starts_with("the ledger was created"));
    let serving = programs.each_ref().map(Program::serve);
    let key = run(&programs[0], &["create", "search", "--until", "90d"]);
    serving.iter().for_each(|serving| wait_for(serving, &key, 200, SOON));
    // The database has digests only.
    let stored = server.sql("SELECT * FROM streamgauge_keys");
    assert!(stored.contains(&id(&key)) && !stored.contains(&key[3..]), "{stored}");
    assert!(!programs[0].path("keys.toml").exists());

    let rotated = run(&programs[1], &["rotate", "search", "--grace", "0s", "--format", "json"]);
    let rotated: Value = serde_json::from_str(&rotated).unwrap();
    let new = rotated["key"].as_str().unwrap();
    assert_eq!(rotated["replaced"][0]["id"], id(&key));
    for serving in &serving {
        wait_for(serving, new, 200, SOON);
        wait_for(serving, &key, 401, SOON);
    }
    let listing: Value = serde_json::from_str(&run(&programs[0], &["list", "--format", "json"])).unwrap();
    let ids: Vec<_> = listing["keys"].as_array().unwrap().iter().map(|key| key["id"].clone()).collect();
    assert_eq!(ids, [id(&key), id(new)]);
    assert!(listing["store"].as_str().unwrap().starts_with("streamgauge_keys in postgres://"), "{listing}");

    assert!(run(&programs[0], &["revoke", &id(new)]).starts_with("revoked"));
    serving.iter().for_each(|serving| wait_for(serving, new, 401, SOON));
    assert_eq!(server.number("SELECT count(*) FROM streamgauge_keys"), 1);
    let refused = keys(&programs[0], &["revoke", &id(new)]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn last_known_keys_stay_while_the_database_is_away() {
    let mut server = Server::start();
    let admin = free_address();
    let program = instance_at(&admin.to_string(), &server);
    migrate(&program);
    let key = run(&program, &["create", "search"]);
    let serving = program.serve();
    assert_eq!(status(&serving, &key), 200, "a start waits for the stored keys");
    let is_up = || {
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
        let metrics = Client::connect(admin).send(request).response();
        let name = "streamgauge_key_store_up ";
        metrics.text().lines().find_map(|line| line.strip_prefix(name)).map(|up| up == "1")
    };
    assert_eq!(is_up(), Some(true));
    server.kill();
    until(PATIENCE, "the outage", || serving.has_logged("the stored keys cannot be read").then_some(()));
    assert_eq!(status(&serving, &key), 200);
    assert_eq!(is_up(), Some(false));
    let failed = keys(&program, &["create", "search"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(
        String::from_utf8_lossy(&failed.stderr).contains("streamgauge_keys in postgres://"),
        "{failed:?}"
    );

    // Another instance starts without the database: the configuration's own keys are accepted.
    let late = instance(&server);
    let later = late.serve();
    assert_eq!((status(&later, OWN_KEY), status(&later, &key)), (200, 401));
    server.resume();
    wait_for(&later, &key, 200, PATIENCE);
    run(&program, &["revoke", &id(&key)]);
    wait_for(&serving, &key, 401, PATIENCE);
    let log = end(serving);
    // A server that starts has states of its own.
    assert!((1..=4).contains(&lines(&log, "the stored keys cannot be read")), "{log:#?}");
    assert_eq!(lines(&log, "the stored keys can be read again"), 1, "{log:#?}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn reload_that_changes_the_store_keeps_the_keys_in_use() {
    let mut server = Server::start();
    let program = instance(&server);
    migrate(&program);
    let revoked = run(&program, &["create", "search"]);
    let serving = program.serve();
    let created = run(&program, &["create", "search"]);
    run(&program, &["revoke", &id(&revoked)]);
    wait_for(&serving, &created, 200, SOON);
    wait_for(&serving, &revoked, 401, SOON);
    // No later reading replaces what the reload puts in use.
    server.kill();
    until(PATIENCE, "the outage", || serving.has_logged("the stored keys cannot be read").then_some(()));
    let configured = std::fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    program.configure(&configured.replace("store = \"postgres\"", "store = \"file\""));
    serving.signal("-HUP");
    until(PATIENCE, "the reload", || serving.has_logged("keys.store").then_some(()));
    assert_eq!((status(&serving, &created), status(&serving, &revoked)), (200, 401));
    end(serving);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn keys_wait_for_the_migration_of_the_database() {
    let server = Server::start();
    let program = instance(&server);
    migrate(&program);
    server.sql("DROP TABLE streamgauge_keys");
    server.sql("UPDATE streamgauge_ledger SET version = 3");
    let serving = program.serve();
    assert_eq!(status(&serving, OWN_KEY), 200);
    let needed = "the ledger in the database has schema 3, and this program needs 4: run";
    assert!(serving.has_logged(needed));
    let failed = keys(&program, &["create", "search"]).output().unwrap();
    assert!(String::from_utf8_lossy(&failed.stderr).contains(needed), "{failed:?}");
    assert!(migrate(&program).contains("from schema 3 to"));
    let key = run(&program, &["create", "search"]);
    wait_for(&serving, &key, 200, SOON);
    // A connection that the database ends is replaced at the next reading.
    server
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'streamgauge'");
    run(&program, &["revoke", &id(&key)]);
    wait_for(&serving, &key, 401, SOON);
    let log = end(serving);
    assert_eq!(lines(&log, "the stored keys cannot be read"), 1, "{log:#?}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn key_revoked_now_ends_a_stream_of_another_instance() {
    let server = Server::start();
    let programs = [instance(&server), instance(&server)];
    migrate(&programs[0]);
    let key = run(&programs[0], &["create", "search"]);
    let serving = programs[1].serve();
    let mut client = Client::connect(serving.address);
    let body = r#"{"model":"sim:events=1000,pace=100ms","stream":true,"messages":[]}"#;
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\napi-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let head = client.head();
    assert!(head.contains("200"), "{head}");
    let begun = Instant::now();
    run(&programs[0], &["revoke", &id(&key), "--now"]);
    assert!(client.cut_body(&head).contains("key_revoked"));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(server.sql("SELECT cut FROM streamgauge_keys"), "t");
    end(serving);
    let output = programs[1].usage(&["--by", "outcome", "--format", "json"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"cut\""), "{output:?}");
}
