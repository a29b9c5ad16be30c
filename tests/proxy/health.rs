//! `streamgauge health` with the real program.

use std::process::Output;

use crate::harness::{Program, free_address};

fn health(program: &Program, arguments: &[&str]) -> Output {
    program.command(&[&["health"], arguments].concat()).output().unwrap()
}

#[test]
fn health_is_0_only_while_the_program_serves() {
    let admin = free_address();
    let program = Program::with_admin(&format!("listen = \"{admin}\""), "path = \"\"");
    assert_eq!(health(&program, &[]).status.code(), Some(1));
    let serving = program.serve();
    let alive = health(&program, &[]);
    assert_eq!((alive.status.code(), &*alive.stdout, &*alive.stderr), (Some(0), &b"ok\n"[..], &b""[..]));
    let ready = health(&program, &["--ready"]);
    assert_eq!(ready.status.code(), Some(0));
    assert!(ready.stdout.starts_with(b"ready\n"), "{ready:?}");
    // A probe needs only the admin port of the configuration.
    program.configure(&format!("[admin]\nlisten = \"{admin}\"\n[upstreams.openai]\nno_such_key = 1\n[serv"));
    assert_eq!(health(&program, &["--ready"]).status.code(), Some(0));
    program.configure("[admin]\nlisten = \"\"\n");
    let off = health(&program, &[]);
    assert_eq!(off.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&off.stderr).contains("admin.listen"), "{off:?}");
    assert_eq!(health(&program, &["--address", &admin.to_string()]).status.code(), Some(0));
    // A configuration that is missing names no process. An address does; a reload is then refused
    // by the process, whose file is gone too.
    std::fs::remove_file(program.path("streamgauge.toml")).unwrap();
    for (command, status) in [("health", 0), ("reload", 2)] {
        let run = |more: &[&str]| {
            let named = [command, "--config", "streamgauge.toml"];
            program.command(&[&named[..], more].concat()).output().unwrap()
        };
        let unnamed = run(&[]);
        assert_eq!(unnamed.status.code(), Some(2), "{command}");
        assert!(
            String::from_utf8_lossy(&unnamed.stderr).starts_with("--config: there is no file"),
            "{unnamed:?}"
        );
        let named = run(&["--address", &admin.to_string()]);
        assert_eq!(named.status.code(), Some(status), "{named:?}");
        assert!(!String::from_utf8_lossy(&named.stderr).contains("--config"), "{named:?}");
    }
    serving.signal("-TERM");
    serving.end();
    assert_eq!(health(&program, &["--address", &admin.to_string()]).status.code(), Some(1));
}
