//! Messages of a start: its addresses, and another process that writes to the same ledger.

use serde_json::Value;

use crate::harness::Program;

fn events(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn start_logs_the_urls_of_both_ports() {
    let program = Program::with_admin("listen = \"127.0.0.1:0\"", "path = \"\"");
    let serving = program.serve();
    let address = serving.address;
    serving.signal("-TERM");
    let events = events(&serving.end());
    let url = |message: &str| {
        let event = events.iter().find(|event| event["message"] == message).expect(message);
        assert_eq!(event["level"], "INFO");
        event["url"].as_str().unwrap().to_owned()
    };
    assert_eq!(url("listening"), format!("http://{address}/v1"));
    let admin = url("admin pages");
    assert!(admin.starts_with("http://127.0.0.1:") && admin.ends_with('/'), "{admin}");
}

#[test]
fn second_process_on_a_ledger_says_so() {
    let program = Program::new("path = \"usage.db\"");
    let warnings = |lines: &[String]| -> Vec<String> {
        let of_ledger = |event: &Value| {
            Some(event["message"].as_str()?.to_owned()).filter(|text| text.contains("ledger.path"))
        };
        events(lines).iter().filter_map(of_ledger).collect()
    };
    let first = program.serve();
    let second = program.serve();
    for serving in [&second, &first] {
        serving.signal("-TERM");
    }
    let second = warnings(&second.end());
    assert_eq!(second.len(), 1, "{second:?}");
    assert!(second[0].contains("writes to usage.db too"), "{second:?}");
    assert_eq!(warnings(&first.end()), [""; 0]);
    let third = program.serve();
    third.signal("-TERM");
    assert_eq!(warnings(&third.end()), [""; 0], "the mark goes with its process");
}
