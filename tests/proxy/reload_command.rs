//! Ways in which an operator reloads the configuration: `streamgauge reload`, the admin port,
//! SIGHUP.

use std::fs;
use std::process::Output;

use crate::harness::{Client, PATIENCE, Program, Serving, free_address, until};

const TOKEN: &str = "token-of-the-operator";

/// A program whose admin port has a token.
fn program() -> (Program, std::net::SocketAddr) {
    let admin = free_address();
    let keys = format!("listen = \"{admin}\"\ntoken = {{ value = \"{TOKEN}\" }}");
    (Program::with_admin(&keys, "path = \"\""), admin)
}

/// Changes the configuration by replacing a line.
fn edit(program: &Program, from: &str, to: &str) {
    let path = program.path("streamgauge.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn reload(program: &Program) -> Output {
    program.command(&["reload"]).output().unwrap()
}

/// The status of a request on a route that only some configurations have.
fn status(serving: &Serving, path: &str) -> u16 {
    let body = "{\"model\":\"m\",\"messages\":[]}";
    Client::connect(serving.address).post(&format!("{path}/v1/chat/completions"), body).response().status()
}

const ROUTES: &str = "default_model = \"m\"\n[[routes]]\npath = \"/new\"\nupstream = \"up\"\n";

#[test]
fn reload_command_exits_with_what_became_of_the_configuration() {
    let (program, _) = program();
    let output = reload(&program);
    assert_eq!(output.status.code(), Some(1), "nothing runs: {output:?}");

    let serving = program.serve();
    edit(&program, "[server]\n", "[server]\nwatch = false\n");
    edit(&program, "default_model = \"m\"\n", ROUTES);
    assert_eq!(status(&serving, "/new"), 404);
    let output = reload(&program);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let status_line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&status_line["generation"], &status_line["refused"]), (&2.into(), &serde_json::Value::Null));
    assert_eq!((&status_line["outcome"], &status_line["late_workers"]), (&"taken".into(), &0.into()));
    assert_eq!((status(&serving, "/new"), status(&serving, "")), (200, 404));
    let again = reload(&program);
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    let status_line: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&status_line["outcome"], &status_line["generation"]), (&"unchanged".into(), &2.into()));

    edit(&program, "upstream = \"up\"", "upstream = \"gone\"");
    edit(&program, "workers = 1", "workers = \"many\"");
    let output = reload(&program);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let mistakes = String::from_utf8(output.stderr).unwrap();
    assert!(mistakes.contains("gone") && mistakes.contains("server.workers"), "{mistakes}");
    assert_eq!(status(&serving, "/new"), 200, "the earlier one stays");
    serving.signal("-TERM");
    let log = serving.end();
    assert!(log.iter().any(|line| line.contains("the configuration is refused")), "{log:#?}");
}

#[test]
fn removed_default_file_is_not_replaced_by_defaults() {
    let (program, admin) = program();
    let mut command = program.command(&["serve"]);
    // Sufficient as a configuration without a file.
    command.env("OPENAI_API_KEY", "sk-of-the-environment");
    let serving = program.serve_as(command);
    fs::remove_file(program.path("streamgauge.toml")).unwrap();
    let post = format!(
        "POST /config/reload HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 0\r\n\r\n"
    );
    let response = Client::connect(admin).send(post).response();
    assert_eq!(response.status(), 422);
    assert!(response.text().contains("there is no file streamgauge.toml"), "{}", response.text());
    assert_eq!(status(&serving, ""), 200);
}

#[test]
fn broken_file_reloads_no_other_process() {
    let (other, admin) = program();
    let _serving = other.serve();
    let mine = Program::unconfigured();
    mine.configure("[server\n[admin]\nlisten = \"127.0.0.1:1\"\n");
    let mut command = mine.command(&["reload"]);
    // Instead of the defaults, which every process without a configuration has.
    command.env("STREAMGAUGE_ADMIN__LISTEN", admin.to_string()).env("STREAMGAUGE_ADMIN__TOKEN__VALUE", TOKEN);
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("streamgauge.toml:1:8: this is not TOML"), "{told}");
    let get =
        format!("GET /config/status HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    let shown: serde_json::Value =
        serde_json::from_slice(Client::connect(admin).send(get).response().body()).unwrap();
    assert_eq!(shown["generation"], 1, "{shown}");
}

#[test]
fn reload_command_advises_where_token_or_address_changed() {
    let (program, admin) = program();
    edit(&program, "[server]\n", "[server]\nwatch = false\n");
    let _serving = program.serve();
    edit(&program, TOKEN, "another-token-1234");
    let told = |arguments: &[&str]| {
        let output = program.command(arguments).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        told
    };
    let refused = told(&["reload"]);
    assert!(
        refused.contains("401") && refused.contains("admin.token") && refused.contains("SIGHUP"),
        "{refused}"
    );
    edit(&program, &format!("\"{admin}\""), &format!("\"{}\"", free_address()));
    edit(&program, "another-token-1234", TOKEN);
    let absent = told(&["reload"]);
    assert!(absent.contains("--address") && absent.contains("SIGHUP"), "{absent}");
    let output = program.command(&["reload", "--address", &admin.to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn reload_is_for_operators_and_not_for_web_pages() {
    let (program, admin) = program();
    let serving = program.serve();
    let post = |headers: &str| {
        let request =
            format!("POST /config/reload HTTP/1.1\r\nhost: {admin}\r\ncontent-length: 0\r\n{headers}\r\n");
        Client::connect(admin).send(request).response().status()
    };
    let key = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(post(""), 401);
    assert_eq!(post(&format!("{key}origin: http://evil.example\r\n")), 403);
    assert_eq!(post(&format!("{key}sec-fetch-site: cross-site\r\n")), 403);
    assert_eq!(post(&key), 200);
    let get = format!("GET /config/reload HTTP/1.1\r\nhost: {admin}\r\n{key}\r\n");
    assert_eq!(Client::connect(admin).send(get).response().status(), 405);

    edit(&program, "url = \"http", "url = \"gopher");
    assert_eq!(post(&key), 422);
    let get = format!("GET /config/status HTTP/1.1\r\nhost: {admin}\r\n{key}\r\n");
    let shown: serde_json::Value =
        serde_json::from_slice(Client::connect(admin).send(get).response().body()).unwrap();
    assert_eq!(shown["generation"], 1, "{shown}");
    let mistakes = shown["refused"]["mistakes"].as_array().unwrap();
    assert!(mistakes.iter().any(|mistake| mistake.as_str().unwrap().contains("upstreams.up.url")), "{shown}");
    drop(serving);
}

#[test]
fn token_that_changed_opens_the_pages_in_place_of_the_old_one() {
    let (program, admin) = program();
    let serving = program.serve();
    let page = |token: &str| {
        let get = format!("GET /config HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {token}\r\n\r\n");
        Client::connect(admin).send(get).response().status()
    };
    assert_eq!((page(TOKEN), page("another-token-1234")), (200, 401));
    let mut live = Client::connect(admin);
    let head = live
        .send(format!(
            "GET /live HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
        ))
        .head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    edit(&program, TOKEN, "another-token-1234");
    serving.signal("-HUP");
    until(PATIENCE, "the new token", || (page("another-token-1234") == 200).then_some(()));
    assert_eq!(page(TOKEN), 401);
    live.rest();
}

#[test]
fn hangup_reads_the_configuration_again() {
    let program = Program::new("path = \"\"");
    let serving = program.serve();
    edit(&program, "[server]\n", "[server]\nwatch = false\n");
    edit(&program, "default_model = \"m\"\n", ROUTES);
    serving.signal("-HUP");
    until(PATIENCE, "the new route", || (status(&serving, "/new") == 200).then_some(()));
    serving.signal("-TERM");
    let log = serving.end();
    assert!(log.iter().any(|line| line.contains("the new configuration is in use")), "{log:#?}");
}

#[test]
fn level_of_the_log_changes_unless_the_command_line_says_it() {
    for (arguments, has_details) in [(&["serve"][..], true), (&["--log", "info", "serve"], false)] {
        let program = Program::new("path = \"\"");
        let serving = program.serve_as(program.command(arguments));
        edit(&program, "[server]\n", "[server]\nwatch = false\n");
        edit(&program, "level = \"info,", "level = \"debug,");
        edit(&program, "default_model = \"m\"\n", ROUTES);
        serving.signal("-HUP");
        until(PATIENCE, "the new route", || (status(&serving, "/new") == 200).then_some(()));
        serving.signal("-TERM");
        let log = serving.end();
        assert_eq!(log.iter().any(|line| line.contains("all workers use the new")), has_details, "{log:#?}");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn changed_file_is_taken_over_within_seconds_by_itself() {
    let program = Program::new("path = \"\"");
    let serving = program.serve();
    edit(&program, "default_model = \"m\"\n", ROUTES);
    until(PATIENCE, "the new route", || (status(&serving, "/new") == 200).then_some(()));
}

#[test]
fn access_lines_change_with_a_reload() {
    let program = Program::new("path = \"\"");
    edit(&program, "level = \"info,streamgauge::access=off\"", "level = \"info\"");
    edit(&program, "[server]\n", "[server]\nwatch = false\n");
    let serving = program.serve();
    assert_eq!(status(&serving, ""), 200);
    // Lines are written after the response, by the setting of that moment.
    until(PATIENCE, "the first line", || serving.has_logged("streamgauge::access").then_some(()));
    edit(&program, "[log]\n", "[log]\naccess = \"failures\"\n");
    edit(&program, "default_model = \"m\"\n", ROUTES);
    serving.signal("-HUP");
    until(PATIENCE, "the new route", || (status(&serving, "/new") == 200).then_some(()));
    serving.signal("-TERM");
    let log = serving.end();
    let lines =
        log.iter().filter(|line| line.contains("streamgauge::access") && line.contains("\"status\":200"));
    assert_eq!(lines.count(), 1, "{log:#?}");
}
