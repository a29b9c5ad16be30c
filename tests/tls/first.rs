//! The first handshake of a process.

use std::time::Duration;

use crate::harness::tls::Folder;
use crate::harness::{Client, Program, Serving};
use crate::witness::Witness;

/// A program with two upstreams, each of which is reached by a full handshake once.
fn serve(upstream: &str, tls: &str) -> (Program, Serving) {
    let program = Program::unconfigured();
    let up = |name: &str| {
        format!(
            "[[routes]]\npath = \"/{name}\"\nupstream = \"{name}\"\n[upstreams.{name}]\nprovider = \"other\"\n\
             url = \"{upstream}/v1\"\napi_key = \"none\"\ndefault_model = \"m\"\n{}",
            tls.replace("NAME", name)
        )
    };
    program.configure(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"\"\n[log]\nformat = \"json\"\n\
         level = \"info\"\n[ledger]\npath = \"\"\n{}{}",
        up("a"),
        up("b")
    ));
    let serving = program.serve();
    (program, serving)
}

fn is_worker(thread: &str) -> bool {
    thread.starts_with("worker-")
}

/// The CPU time of the worker for one response.
fn cost(serving: &Serving, path: &str) -> Duration {
    let before = serving.cpu_time(is_worker);
    let response = Client::connect(serving.address).last_get(path, "");
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    serving.cpu_time(is_worker) - before
}

/// AWS-LC seeds its random numbers once in a process, which takes some 30 ms of computing in every
/// build. CPU times of threads say which thread did it: the handshakes of one program are compared
/// with each other, and the other threads with those of a program without TLS.
#[test]
fn worker_does_not_seed_random_numbers_at_first_handshake() {
    let folder = Folder::new();
    let upstream = Witness::run(&folder, &folder.ca.issue("up", &["127.0.0.1"]), None);
    let tls = format!("[upstreams.NAME.tls]\n{}", folder.ca_line("ca"));
    let (_folder, plain) = serve("http://127.0.0.1:9", "");
    let (_other_folder, encrypted) = serve(&format!("https://{}", upstream.address), &tls);
    let (first, second) = (cost(&encrypted, "/a/v1/models"), cost(&encrypted, "/b/v1/models"));
    let others = |serving: &Serving| serving.cpu_time(|thread| !is_worker(thread));
    let seeding = others(&encrypted).saturating_sub(others(&plain));
    assert!(
        first.saturating_sub(second) < seeding / 2,
        "first handshake {first:?}, second {second:?}, seeding on other threads {seeding:?}"
    );
}
