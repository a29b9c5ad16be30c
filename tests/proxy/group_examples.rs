//! The examples of groups, with simulators in place of their services.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::group_processes::Simulator;
use crate::harness::program::Serving;
use crate::harness::{Client, PATIENCE, Program, Response, free_address, until};

const PATH: &str = "/v1/chat/completions";

/// A program with an example's text after these replacements, on free ports, with its admin pages
/// at the address.
fn program(example: &str, replacements: &[(&str, &str)]) -> (Program, SocketAddr) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(example);
    let mut text = fs::read_to_string(path).unwrap();
    for (old, new) in replacements {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    let (program, admin) = (Program::unconfigured(), free_address());
    program.configure(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"{admin}\"\n[log]\nformat = \"json\"\n[ledger]\npath = \"\"\n{text}"
    ));
    (program, admin)
}

fn serve(program: &Program) -> Serving {
    let mut command = program.command(&["serve"]);
    for name in ["AZURE_PTU_KEY", "AZURE_STANDARD_KEY", "LLM_KEY"] {
        command.env(name, "key");
    }
    program.serve_as(command)
}

fn ask(serving: &Serving, model: &str, prompt: usize) -> Response {
    let body =
        format!("{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}");
    Client::connect(serving.address).post(PATH, &body).response()
}

/// The member that served, and the number of attempts.
fn served(response: &Response) -> (&str, &str) {
    assert_eq!(response.status(), 200, "{}", response.text());
    let header = |name| response.header(name).unwrap();
    (header("x-streamgauge-upstream"), header("x-streamgauge-attempts"))
}

fn page(admin: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\n\r\n");
    Client::connect(admin).send(request).response().text().to_owned()
}

/// The example with simulators, and the direction of the provisioned deployment.
fn spillover(directions: &str) -> (Program, SocketAddr, [Simulator; 2]) {
    let [ptu, standard] = [free_address(), free_address()];
    let (program, admin) = program(
        "azure-ptu-spillover.toml",
        &[
            ("https://my-ptu.openai.azure.com", &format!("http://{ptu}")),
            ("https://my-standard.openai.azure.com", &format!("http://{standard}")),
            ("\"gpt-4o-provisioned\"", &format!("\"sim:{directions}\"")),
            ("\"gpt-4o-standard\"", "\"sim\""),
        ],
    );
    let simulators = [ptu, standard].map(|address| Simulator::start(&program, address));
    (program, admin, simulators)
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn provisioned_throughput_is_used_and_its_utilisation_shown() {
    let (program, admin, _simulators) = spillover("utilization=87");
    let serving = serve(&program);
    for prompt in 0..5 {
        assert_eq!(served(&ask(&serving, "gpt-4o", prompt)), ("azure-ptu", "1"));
    }
    let metric = "streamgauge_upstream_utilization{upstream=\"azure-ptu\",model=\"gpt-4o\"} 0.87";
    assert!(page(admin, "/metrics").contains(metric), "{}", page(admin, "/metrics"));
    let members: Value = serde_json::from_str(&page(admin, "/members")).unwrap();
    assert_eq!(members["groups"][0]["members"][0]["models"][0]["utilization"], 0.87);
    assert!(page(admin, "/").contains("87 % used"));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn provisioned_throughput_spills_until_its_limit_ends() {
    let (program, admin, _simulators) = spillover("status=429,limit=millis,after=3s");
    let serving = serve(&program);
    let mut spilled = 0;
    // Every 3 s one request asks the provisioned deployment again.
    for prompt in 0..30 {
        match served(&ask(&serving, "gpt-4o", prompt)) {
            ("azure-standard", "2") => spilled += 1,
            other => assert_eq!(other, ("azure-standard", "1")),
        }
        if prompt == 0 {
            assert_eq!(spilled, 1, "the first one is sent on at once");
            let members: Value = serde_json::from_str(&page(admin, "/members")).unwrap();
            let model = &members["groups"][0]["members"][0]["models"][0];
            assert_eq!((&model["model"], &model["available"]), (&"gpt-4o".into(), &false.into()));
            assert!(model["rate_limited_until"].is_string(), "{members}");
            let cooldown = "streamgauge_cooldown_seconds{upstream=\"azure-ptu\",model=\"gpt-4o\"} ";
            assert!(page(admin, "/metrics").contains(cooldown));
            assert!(page(admin, "/").contains("rate limited"));
        }
    }
    until(PATIENCE, "the end of the limit", || {
        (served(&ask(&serving, "gpt-4o", 0)) == ("azure-standard", "2")).then_some(())
    });
    assert!(spilled < 10, "{spilled}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn other_failures_of_provisioned_throughput_are_relayed() {
    let (program, _, _simulators) = spillover("status=500");
    let serving = serve(&program);
    assert_eq!(ask(&serving, "gpt-4o", 0).status(), 500);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn local_servers_share_requests_and_one_may_stop() {
    let addresses = [free_address(), free_address(), free_address()];
    let [one, two, three] = addresses.map(|address| format!("http://{address}/v1"));
    let (program, admin) = program(
        "local-servers.toml",
        &[
            ("https://gpu-1.internal:8443/v1", &one),
            ("https://gpu-2.internal:8443/v1", &two),
            ("https://gpu-3.internal:8443/v1", &three),
        ],
    );
    let mut servers = addresses.map(|address| Some(Simulator::start(&program, address)));
    let serving = serve(&program);
    let count = |requests: std::ops::Range<usize>| {
        let mut counts = [0; 3];
        for prompt in requests {
            let response = ask(&serving, "llama-3.3-70b", prompt);
            let (upstream, _) = served(&response);
            counts[upstream.strip_prefix("gpu-").unwrap().parse::<usize>().unwrap() - 1] += 1;
        }
        counts
    };
    let counts = count(0..300);
    assert!(counts.iter().all(|&count| count > 20), "{counts:?}");
    assert!(counts[2] < counts[0] && counts[2] < counts[1], "{counts:?}: the third has half of the weight");

    servers[0] = None;
    let counts = count(300..500);
    assert_eq!(counts[0], 0);
    let state = || -> Value { serde_json::from_str(&page(admin, "/members")).unwrap() };
    let is_out = |state: &Value| {
        let member = &state["groups"][0]["members"][0];
        member["out"].is_object() || member["models"][0]["out"].is_object()
    };
    let shown = state();
    assert!(is_out(&shown), "{shown}");
    assert!(page(admin, "/metrics").contains("streamgauge_upstream_available{upstream=\"gpu-1\"} 0"));
    servers[0] = Some(Simulator::start(&program, addresses[0]));
    // The probe lets it in; no client's request is needed.
    until(Duration::from_secs(60), "the server's return", || (!is_out(&state())).then_some(()));
    let counts = count(500..700);
    assert!(counts[0] > 20, "{counts:?}");
}
