//! The commands that follow a first configuration.

use std::path::Path;

use super::choice::{Choice, Kind};
use super::configuration::default_model;

/// The commands, a line each, with what they do.
pub(super) fn commands(choices: &[Choice], missing: &[&str], config: Option<&Path>) -> String {
    let config = config.map(|path| format!(" --config '{}'", path.display())).unwrap_or_default();
    let mut lines = vec!["Next:".to_owned()];
    let line = |command: String, what: &str| format!("  {command:<34} # {what}");
    for variable in missing {
        lines.push(line(format!("export {variable}=..."), "the key, which is not in the file"));
    }
    if choices.iter().any(|choice| choice.kind == Kind::Simulator) {
        lines.push(line("streamgauge simulate &".to_owned(), "the simulated service"));
    }
    lines.push(line(format!("streamgauge check --live{config}"), "sends a small request to every service"));
    lines.push(line(format!("streamgauge serve{config} &"), "runs the proxy"));
    lines.push(format!("  {}", request(choices)));
    lines.push(line(format!("streamgauge usage{config}"), "counts the tokens"));
    lines.push(line("curl -s http://127.0.0.1:9090/".to_owned(), "the dashboard: open it in a browser"));
    lines.join("\n") + "\n"
}

/// A first request of an SDK, whose `base_url` is all that changes.
fn request(choices: &[Choice]) -> String {
    let first = choices.first().map_or(Kind::OpenAi, |choice| choice.kind);
    let model = match first {
        Kind::OpenAi => "gpt-4.1-mini",
        Kind::Azure => "YOUR-DEPLOYMENT",
        Kind::Anthropic => "claude-sonnet-4-5",
        Kind::Gemini => "gemini-2.5-flash",
        Kind::Other | Kind::Simulator => default_model(first).unwrap_or("sim"),
    };
    format!(
        "python3 -c 'from openai import OpenAI; print(OpenAI(base_url=\"http://127.0.0.1:8080/v1\", api_key=\"unused\")\
         .chat.completions.create(model=\"{model}\", messages=[{{\"role\": \"user\", \"content\": \"Hello\"}}])\
         .choices[0].message.content)'"
    )
}
