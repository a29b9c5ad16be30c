//! `streamgauge prices import`, from the ledger to costs.

use std::fs;
use std::process::Output;

use crate::harness::{Client, Program};

fn list(input: &str) -> String {
    format!(
        r#"{{"groq/m": {{"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": {input}, "output_cost_per_token": 4e-06}}}}"#
    )
}

fn import(program: &Program, input: &str, more: &[&str]) -> (String, String) {
    fs::write(program.path("list.json"), list(input)).unwrap();
    let words = [&["prices", "import", "list.json", "--service", "up=groq"], more].concat();
    texts(&program.command(&words).output().unwrap())
}

fn texts(output: &Output) -> (String, String) {
    assert!(output.status.success(), "{output:?}");
    [&output.stdout, &output.stderr].map(|text| String::from_utf8(text.clone()).unwrap()).into()
}

/// The cost of all requests.
fn cost(program: &Program) -> String {
    let output = program.usage(&["--format", "json", "--by", ""]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["total"]["cost"].to_string()
}

#[test]
fn imported_prices_are_those_of_the_models_in_use() {
    let program = Program::new("path = \"usage.db\"");
    let (out, told) = import(&program, "2e-06", &[]);
    assert!(out.is_empty() && told.contains("there is no ledger"), "{out}{told}");
    let serving = program.serve();
    let mut client = Client::connect(serving.address);
    let response = client.post("/v1/chat/completions", "{\"model\":\"m\",\"messages\":[]}").response();
    assert_eq!(response.status(), 200);
    drop(client);
    serving.signal("-TERM");
    serving.end();

    let (out, told) = import(&program, "2e-06", &[]);
    assert_eq!(out, "+ m (up): input 2, output 4\n");
    assert!(told.contains("1 price differs, 0 as before; --write"), "{told}");
    assert!(!program.path("prices.toml").exists(), "nothing is written without the option");
    let unpriced = cost(&program);
    import(&program, "2e-06", &["--write"]);
    let priced = cost(&program);
    assert_ne!(priced, unpriced);
    assert!(import(&program, "2e-06", &["--write"]).1.contains("nothing has changed; 1 price is"));

    let (out, _) = import(&program, "1e-06", &["--write", "--from", "2127-01-01"]);
    assert!(out.starts_with("~ m (up): input 2 → 1,") && out.ends_with(" from 2127-01-01\n"), "{out}");
    assert_eq!(cost(&program), priced, "earlier requests keep their price");
    let (out, _) = import(&program, "2e-06", &["--toml", "groq/*"]);
    assert_eq!(out.matches("\n[[prices]]\n").count(), 2, "{out}");
    let output = program.command(&["check"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn file_that_is_no_price_list_is_refused() {
    let program = Program::new("path = \"usage.db\"");
    fs::write(program.path("list.json"), "{}").unwrap();
    for (words, message) in [
        (&["prices", "import", "list.json"][..], "is not LiteLLM's price list"),
        (&["prices", "import", "list.json", "--write", "--toml"], "cannot be used with"),
        (&["prices", "import", "list.json", "--service", "up"], "UPSTREAM=SERVICE"),
    ] {
        let output = program.command(words).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains(message), "{told}");
    }
    let output = program.command(&["prices", "import", "gone.json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
