//! The text of a first configuration.

use std::fmt::Write as _;

use super::choice::{Choice, Kind};

const HEADER: &str = "\
# streamgauge, a first configuration: `streamgauge check` checks it, `streamgauge serve` runs it.
# Every other key has a default: `streamgauge config docs` describes them all.

# Applications connect here. Programs on other machines need [clients] with keys, and 0.0.0.0.
[server]
listen = \"127.0.0.1:8080\"

# The dashboard, metrics and health.
[admin]
listen = \"127.0.0.1:9090\"
";

const FOOTER: &str = "
# Keys for applications, which `streamgauge keys create app` makes. Usage is then counted for each.
#[clients.app]
";

/// The configuration, whose services have distinct kinds.
pub(super) fn configuration(choices: &[Choice]) -> String {
    let mut text = HEADER.to_owned();
    // A string takes all that is written.
    let _ = write(&mut text, choices);
    text + FOOTER
}

fn write(text: &mut String, choices: &[Choice]) -> std::fmt::Result {
    for choice in choices {
        writeln!(text, "\n# {}.\n[upstreams.{}]", title(choice.kind), choice.kind.name())?;
        if matches!(choice.kind, Kind::Other | Kind::Simulator) {
            writeln!(text, "provider = \"other\"")?;
        }
        if let Some(url) = &choice.url {
            writeln!(text, "url = \"{url}\"")?;
        }
        match choice.variable() {
            Some(variable) => writeln!(text, "api_key = {{ env = \"{variable}\" }}")?,
            None => writeln!(text, "api_key = \"none\"")?,
        }
        if let Some(model) = default_model(choice.kind) {
            writeln!(text, "default_model = \"{model}\"           # for requests that name none")?;
        }
    }
    // The last service takes the rest.
    if let [others @ .., last] = choices
        && !others.is_empty()
    {
        writeln!(
            text,
            "\n# The first match decides. The model is that of the request; a * matches any characters."
        )?;
        for choice in others {
            writeln!(
                text,
                "[[routes]]\nmodel = \"{}\"\nupstream = \"{}\"\n",
                models(choice.kind),
                choice.kind.name()
            )?;
        }
        writeln!(text, "[[routes]]\nupstream = \"{}\"", last.kind.name())?;
    }
    Ok(())
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Simulator => "A simulated service: `streamgauge simulate` runs it",
        Kind::Other => "A service with OpenAI's API",
        kind => kind.title(),
    }
}

/// The model of requests that name none, where a service must have one.
pub(super) fn default_model(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Other => Some("llama-3.3-70b"),
        Kind::Simulator => Some("sim"),
        _ => None,
    }
}

/// The models of a service beside others.
fn models(kind: Kind) -> &'static str {
    match kind {
        Kind::OpenAi => "gpt-*",
        Kind::Azure => "azure-*",
        Kind::Anthropic => "claude*",
        Kind::Gemini => "gemini*",
        Kind::Other => "llama*",
        Kind::Simulator => "sim*",
    }
}

#[cfg(test)]
mod tests {
    use super::super::choice::KINDS;
    use super::*;
    use crate::config::from_text;

    /// The configuration without variables, which a text alone cannot have.
    fn loaded(choices: &[Choice]) -> crate::config::Loaded {
        let text = configuration(choices);
        let text = KINDS
            .iter()
            .filter_map(|kind| Choice::parse(kind.name()).ok()?.variable().map(str::to_owned))
            .fold(text, |text, variable| {
                text.replace(&format!("{{ env = \"{variable}\" }}"), "{ value = \"k\" }")
            });
        let text = text.replace("{ env = \"AZURE_OPENAI_API_KEY\" }", "{ value = \"k\" }");
        from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
    }

    #[test]
    fn every_choice_is_a_valid_configuration() {
        let all: Vec<_> = [
            "openai",
            "azure=https://r.openai.azure.com",
            "anthropic",
            "gemini",
            "other=http://127.0.0.1:8000/v1",
            "simulator",
        ]
        .into_iter()
        .map(|text| Choice::parse(text).unwrap())
        .collect();
        for choice in &all {
            let loaded = loaded(std::slice::from_ref(choice));
            assert_eq!((loaded.settings.upstreams.len(), loaded.warnings), (1, Vec::new()), "{choice:?}");
        }
        let loaded = loaded(&all);
        assert_eq!((loaded.settings.upstreams.len(), loaded.settings.routes.len()), (6, 6));
        assert_eq!(loaded.warnings, [""; 0]);
    }
}
