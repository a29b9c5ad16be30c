//! The verdict of `check` on a configuration and this machine, without requests; and `config show`.

use std::net::TcpListener;

use crate::program::{Ended, Folder, SECRETS, up};

/// Free ports, and no ledger.
const ALONE: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"\"\n[ledger]\npath = \"\"\n";

fn upstream() -> String {
    up("http://127.0.0.1:9/v1", "")
}

fn check(text: &str) -> Ended {
    Folder::new().run(text, &["check"])
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

#[test]
fn last_line_of_a_valid_configuration_says_so() {
    let ended = check(&(ALONE.to_owned() + &upstream()));
    assert_eq!((ended.status, last_line(&ended.out)), (0, "configuration is valid"), "{}", ended.all());
    assert_eq!(ended.err, "");
}

#[test]
fn mistakes_have_their_lines_and_are_counted() {
    let one = check(&format!("{ALONE}{}urll = 1\n", upstream()));
    assert_eq!(one.status, 2, "{}", one.all());
    assert_eq!(last_line(&one.err), "configuration is not valid: 1 mistake");
    let first = one.err.lines().next().unwrap();
    assert!(first.starts_with("streamgauge.toml:14: upstreams.up.urll: unknown key"), "{first}");
    let two = check(&format!("{ALONE}workers = 1\n{}urll = 1\n", upstream()));
    assert_eq!(last_line(&two.err), "configuration is not valid: 2 mistakes");
    let broken = check("[server\n");
    assert!(broken.err.starts_with("streamgauge.toml:1:8: this is not TOML"), "{}", broken.all());
    assert_eq!(last_line(&broken.err), "configuration is not valid: 1 mistake");
}

#[test]
fn check_names_what_would_stop_a_start_with_its_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ports = |server: u16, admin: &str| {
        format!("[server]\nlisten = \"127.0.0.1:{server}\"\n[admin]\nlisten = \"{admin}\"\n")
    };
    for (text, message) in [
        (
            ports(0, "") + "[ledger]\npath = \"gone/usage.db\"\n",
            ":6: ledger.path: cannot open gone/usage.db: there is no folder /",
        ),
        (
            ports(0, "") + "[ledger]\njsonl = \"gone/usage.jsonl\"\n",
            ":6: ledger.jsonl: cannot open gone/usage.jsonl: there is no",
        ),
        (
            ports(0, "") + "[ledger]\npath = \"ca.crt\"\n",
            ":6: ledger.path: ca.crt: is a file of another kind",
        ),
        (
            ports(port, ""),
            &format!(":2: server.listen: cannot listen on 127.0.0.1:{port}: the address is in use by "),
        ),
        (
            ports(0, &format!("127.0.0.1:{port}")),
            &format!(":4: admin.listen: cannot listen on 127.0.0.1:{port}"),
        ),
    ] {
        let ended = check(&(text + &upstream()));
        assert_eq!(ended.status, 2, "{message}: {}", ended.all());
        assert!(ended.err.contains(message), "{message}: {}", ended.all());
        assert_eq!(last_line(&ended.err), "configuration is not valid: 1 mistake");
        assert!(!ended.out.contains("configuration is valid"), "{}", ended.all());
    }
}

#[test]
fn effective_configuration_has_options_of_both_sides_no_secrets() {
    let folder = Folder::new();
    let text = ALONE.to_owned() + &upstream();
    for arguments in [
        &["config", "show"][..],
        &["--config", "streamgauge.toml", "config", "show"],
        &["config", "-c", "streamgauge.toml", "show"],
        &["config", "show", "--config", "streamgauge.toml", "--format", "json"],
    ] {
        let ended = folder.run(&text, arguments);
        assert_eq!(ended.status, 0, "{}", ended.all());
        let shown: serde_json::Value = match arguments.last() {
            Some(&"json") => serde_json::from_str(&ended.out).unwrap(),
            _ => toml::from_str(&ended.out).unwrap(),
        };
        assert_eq!(shown["server"]["listen"], "127.0.0.1:0");
        assert_eq!(shown["server"]["drain_timeout"], "30s", "the defaults are in it");
        assert_eq!(shown["upstreams"]["up"]["api_key"]["value"], "***");
        assert!(SECRETS.iter().all(|secret| !ended.out.contains(secret)));
    }
    let gone = folder.run(&text, &["-c", "gone.toml", "check"]);
    assert!(gone.status == 2 && gone.err.contains("there is no file gone.toml"), "{}", gone.all());
    let foreign = folder.run(&text, &["--listen", "127.0.0.1:1", "usage"]);
    assert!(
        foreign.status == 2 && foreign.err.contains("--listen is not one of `streamgauge usage`"),
        "{}",
        foreign.all()
    );
}

#[test]
fn log_level_that_is_none_is_refused_with_the_levels() {
    const LEVELS: &str = "off, error, warn, info, debug, trace";
    let ended = check(&format!("{ALONE}{}[log]\nlevel = \"inf\"\n", upstream()));
    assert!(ended.status == 2 && ended.err.contains("log.level: \"inf\" is not a level"), "{}", ended.all());
    assert!(ended.err.contains(LEVELS), "{}", ended.all());
    let folder = Folder::new();
    let ended = folder.run(&(ALONE.to_owned() + &upstream()), &["serve", "--log", "inf"]);
    assert!(ended.status == 2 && ended.err.contains("--log: \"inf\" is not a level"), "{}", ended.all());
    assert!(ended.err.contains(LEVELS), "{}", ended.all());
}
