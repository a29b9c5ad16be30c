//! Starts that fail, or that succeed with few resources: the messages of the real program, and its
//! exit status.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{self, Command, Output, Stdio};

use streamgauge::app::App;
use streamgauge::config::{self, Overrides, Sources};

use crate::harness::{Client, Program};

const KEPT: &str = "path = \"usage.db\"\njsonl = \"usage.jsonl\"";

/// Runs the program as a user without privileges, under a limit of `ulimit`, in its directory,
/// where that user may write.
fn unprivileged(program: &Program, limit: &str, arguments: &str) -> Command {
    fs::set_permissions(program.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    program.shell(&format!(
        "if [ \"$(id -u)\" = 0 ]; then as='setpriv --reuid 60123 --regid 60123 --clear-groups'; fi; \
         {limit}; exec $as \"$0\" {arguments}"
    ))
}

/// Waits until the program listens, or for its end. `None`: it listened, and was ended.
fn failure(mut command: Command) -> Option<Output> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut text = String::new();
    let is_listening = lines.any(|line| {
        text += &line;
        text.push('\n');
        line.contains("listening")
    });
    if is_listening {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    (!is_listening).then(|| Output { status, stdout: Vec::new(), stderr: text.into_bytes() })
}

/// The messages of a failed start, with status 1 and no panic.
fn said(ended: &Output) -> String {
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked") && !text.contains("backtrace"), "{text}");
    text
}

#[test]
fn serve_with_few_open_files_says_so_or_serves() {
    let program = Program::with_admin("listen = \"127.0.0.1:0\"", KEPT);
    let mut served = Vec::new();
    for limit in (8..=96).step_by(4) {
        match failure(program.shell(&format!("ulimit -n {limit}; exec \"$0\" serve"))) {
            None => served.push(limit),
            Some(ended) => {
                let text = said(&ended);
                assert!(text.contains("ulimit -n") && text.contains("LimitNOFILE="), "{limit}: {text}");
                assert!(served.is_empty(), "{limit} are too few, {served:?} were not");
            }
        }
    }
    assert!(served.contains(&96));
}

#[test]
fn other_commands_with_few_open_files_say_so_or_work() {
    let program = Program::new(KEPT);
    drop(program.serve());
    for limit in [8, 10, 12, 14, 16, 20, 24, 32, 48] {
        for arguments in [
            "simulate --listen 127.0.0.1:0",
            "demo --once",
            "usage",
            "check",
            "check --live",
            "ledger migrate",
        ] {
            if let Some(ended) =
                failure(program.shell(&format!("ulimit -n {limit}; exec \"$0\" {arguments}")))
            {
                let text = String::from_utf8_lossy(&ended.stderr).into_owned();
                // The configuration has no PostgreSQL to migrate: status 2.
                assert!(matches!(ended.status.code(), Some(0..=2)), "{limit}: {arguments}: {text}");
                assert!(!text.contains("panicked"), "{limit}: {arguments}: {text}");
                assert!(ended.status.success() || !text.is_empty(), "{limit}: {arguments}");
            }
        }
    }
}

#[test]
fn serve_without_threads_says_so_or_serves() {
    let program = Program::with_admin("listen = \"127.0.0.1:0\"", KEPT);
    for limit in 1..=16 {
        if let Some(ended) = failure(unprivileged(&program, &format!("ulimit -u {limit}"), "serve")) {
            let text = said(&ended);
            assert!(text.contains("ulimit -u") && text.contains("TasksMax="), "{limit}: {text}");
        }
    }
    let ended = failure(unprivileged(&program, "ulimit -u 1", "serve")).expect("one thread is too few");
    said(&ended);
    let ended = failure(unprivileged(&program, "ulimit -u 1", "simulate --listen 127.0.0.1:0")).unwrap();
    said(&ended);
}

#[test]
fn address_in_use_names_its_key_and_who_has_it() {
    let program = Program::new(KEPT);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let owner = format!("(process {})", process::id());
    let serve = program.command(&["serve", "--listen", &address]);
    let mut admin = program.command(&["serve"]);
    admin.env("STREAMGAUGE_ADMIN__LISTEN", &address);
    let simulate = program.command(&["simulate", "--listen", &address]);
    for (command, keys) in
        [(serve, &["server.listen", "--listen"][..]), (admin, &["admin.listen"]), (simulate, &["--listen"])]
    {
        let text = said(&failure(command).expect("it cannot listen"));
        assert!(text.contains(&address) && text.contains(&owner), "{text}");
        assert!(keys.iter().all(|key| text.contains(key)), "{text}");
    }
}

#[test]
fn address_of_another_machine_is_refused_with_a_hint() {
    let program = Program::new(KEPT);
    let mut command = program.command(&["serve", "--listen", "192.0.2.1:8080"]);
    command.env("STREAMGAUGE_SERVER__ALLOW_ANONYMOUS", "true");
    let text = said(&failure(command).expect("it cannot listen"));
    assert!(text.contains("server.listen") && text.contains("not an address of this machine"), "{text}");
}

#[test]
fn jsonl_that_cannot_be_opened_names_its_key_and_folder() {
    let program = Program::new("path = \"\"\njsonl = \"gone/usage.jsonl\"");
    let text = said(&failure(program.command(&["serve"])).expect("there is no folder"));
    assert!(text.contains("ledger.jsonl: cannot open gone/usage.jsonl: there is no folder /"), "{text}");
    fs::create_dir(program.path("gone")).unwrap();
    fs::set_permissions(program.path("gone"), fs::Permissions::from_mode(0o555)).unwrap();
    let text = said(&failure(unprivileged(&program, "true", "serve")).expect("it may not write"));
    assert!(text.contains("ledger.jsonl: cannot open") && text.contains("may not create a file"), "{text}");
}

#[test]
fn stderr_that_cannot_be_written_changes_no_exit_status() {
    let program = Program::new("path = \"\"\njsonl = \"gone/usage.jsonl\"");
    for redirection in ["2>/dev/full", "2>&-", "2> >(true)"] {
        for (arguments, status) in [("serve", 1), ("serve --config gone.toml", 2), ("usage", 2)] {
            let script = format!("sleep 0.05; exec \"$0\" {arguments} {redirection}");
            let ended = program.shell(&script).output().unwrap();
            assert_eq!(ended.status.code(), Some(status), "{arguments} {redirection}");
        }
    }
}

#[test]
fn failed_start_is_a_log_line_and_plain_text_on_a_terminal() {
    let program = Program::new("path = \"\"\njsonl = \"gone/usage.jsonl\"");
    let text = said(&failure(program.command(&["serve"])).unwrap());
    let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "ERROR");
    let text = said(&failure(program.command(&["serve", "--log", "off"])).unwrap());
    assert!(text.contains("ledger.jsonl"), "no filter hides it: {text}");
    // `script` gives its command a terminal.
    let terminal = program.shell("exec script -qec \"'$0' serve\" /dev/null").output().unwrap();
    let text = String::from_utf8_lossy(&terminal.stdout).into_owned();
    assert_eq!(terminal.status.code(), Some(1), "{text}");
    assert!(text.lines().any(|line| line.starts_with("streamgauge: ledger.jsonl: cannot open")), "{text}");
}

#[test]
fn certificate_that_vanished_after_the_check_names_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.path().join("a.crt"), pair.cert.pem()).unwrap();
    fs::write(folder.path().join("a.key"), pair.signing_key.serialize_pem()).unwrap();
    let text = "[server]\nlisten = \"127.0.0.1:0\"\n[server.tls]\ncertificate = { file = \"a.crt\" }\nprivate_key = { file = \"a.key\" }\n\
                [admin]\nlisten = \"\"\n[ledger]\npath = \"\"\n[upstreams.openai]\napi_key = { value = \"sk-marker\" }\n";
    let file = folder.path().join("streamgauge.toml");
    fs::write(&file, text).unwrap();
    let sources = Sources { file: Some(file), env: Default::default(), overrides: Overrides::default() };
    let settings = config::load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}")).settings;
    fs::remove_file(folder.path().join("a.crt")).unwrap();
    let error = App::bind(&settings, Vec::new()).err().expect("the certificate is gone");
    assert!(error.starts_with("server.tls.certificate"), "{error}");
}

#[test]
fn serve_with_300_open_files_serves_many_and_warns() {
    let program = Program::new(KEPT);
    let serving = program.serve_as(program.shell("ulimit -n 300; exec \"$0\" serve"));
    let body = "{\"model\":\"sim:events=100,pace=50ms\",\"messages\":[],\"stream\":true}";
    let mut clients: Vec<_> = (0..60)
        .map(|_| {
            let mut client = Client::connect(serving.address);
            client.post("/v1/chat/completions", body);
            client
        })
        .collect();
    for client in &mut clients {
        assert!(client.head().starts_with("HTTP/1.1 200"));
    }
    drop(clients);
    serving.signal("-TERM");
    let log = serving.end();
    let warning = log.iter().find(|line| line.contains("open files are allowed"));
    assert!(
        warning.is_some_and(|line| line.contains("clients") && line.contains("LimitNOFILE=")),
        "{log:#?}"
    );
}

#[test]
fn more_connections_than_open_files_allow_are_warned_of() {
    let program = Program::new(KEPT);
    let mut command = program.shell("ulimit -n 300; exec \"$0\" serve");
    command.env("STREAMGAUGE_SERVER__MAX_CONNECTIONS", "5000");
    let serving = program.serve_as(command);
    serving.signal("-TERM");
    let log = serving.end();
    assert!(log.iter().any(|line| line.contains("server.max_connections = 5000 needs")), "{log:#?}");
}
