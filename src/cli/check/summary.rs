//! A summary of the configuration, for people.

mod clients;

use std::fmt::{self, Write as _};

use crate::config::{
    CloudIdentity, GroupSettings, JsonlTarget, KeyStorage, Loaded, MemberSettings, OtlpSettings, Route,
    RouteTarget, Settings, Upstream,
};
use crate::llm::provider::{ApiVersion, Provider};
use crate::tls::{ClientCertificates, ServerSettings, Verification};

/// One line for each part of the configuration, without secrets.
pub(super) struct Summary<'a>(pub(super) &'a Loaded);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loaded { settings, origin, .. } = self.0;
        let origin = origin
            .as_ref()
            .map_or_else(|| "none, defaults only".to_owned(), |path| path.display().to_string());
        line(f, "file", &origin)?;
        line(f, "listen", &listen(settings))?;
        line(f, "workers", &settings.server.workers.to_string())?;
        line(f, "admin", &admin(settings))?;
        line(f, "ledger", &ledger(settings))?;
        if let Some(collector) = &settings.otlp {
            line(f, "otlp", &otlp(collector))?;
        }
        if let Some(text) = fixed(&self.0.from_environment) {
            line(f, "fixed", &text)?;
        }
        line(f, "clients", &clients::names(settings))?;
        match (&settings.keys.storage, settings.keys.stored.len()) {
            (KeyStorage::File(file), count @ 1..) => {
                line(f, "keys", &format!("{count} in {}", file.display()))?;
            }
            (KeyStorage::Table, _) => line(f, "keys", "in the table streamgauge_keys of [ledger.postgres]")?,
            _ => {}
        }
        for text in settings.clients.iter().filter_map(|each| clients::client(each, settings)) {
            line(f, "client", &text)?;
        }
        for each in &settings.teams {
            line(f, "team", &clients::team(each, settings))?;
        }
        if let Some(text) = clients::of_all(settings) {
            line(f, "limits", &text)?;
        }
        for each in &settings.upstreams {
            line(f, "upstream", &upstream(each))?;
        }
        for each in &settings.groups {
            line(f, "group", &group(each, settings))?;
        }
        if settings.routes.is_empty() {
            let only = settings.upstreams.first().map_or("", |upstream| &upstream.name);
            return line(f, "route", &format!("everything -> {only}"));
        }
        settings.routes.iter().try_for_each(|each| line(f, "route", &route(each, settings)))
    }
}

/// The secrets that a reload cannot change.
fn fixed(from_environment: &[(String, String)]) -> Option<String> {
    let secrets = from_environment.iter().map(|(key, variable)| format!("{key} ({variable})"));
    let secrets: Vec<_> = secrets.collect();
    (!secrets.is_empty())
        .then(|| format!("from the environment, which changes only at a restart: {}", secrets.join(", ")))
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, text: &str) -> fmt::Result {
    writeln!(f, "{what:<10}{text}")
}

fn listen(settings: &Settings) -> String {
    let mut text = settings.server.listen.to_string();
    push_tls(&mut text, settings.server.tls.as_ref());
    text
}

fn admin(settings: &Settings) -> String {
    let admin = &settings.admin;
    let Some(listen) = &admin.listen else { return "none".to_owned() };
    let mut text = listen.to_string();
    if admin.token.is_some() {
        push(&mut text, format_args!("token"));
    }
    if admin.read_token.is_some() {
        push(&mut text, format_args!("read token"));
    }
    if let Some(users) = &admin.users {
        let may = if users.may_change { "change" } else { "read" };
        push(&mut text, format_args!("users in {}, who may {may}", users.header));
    }
    push_tls(&mut text, admin.tls.as_ref());
    text
}

fn push_tls(text: &mut String, tls: Option<&ServerSettings>) {
    let Some(tls) = tls else { return };
    push(text, format_args!("TLS with the certificate in {}", tls.identity.certificate));
    if !tls.client_ca.is_empty() {
        let certificates = match tls.client_certificates {
            ClientCertificates::Optional => "optional",
            ClientCertificates::Required => "required",
        };
        push(text, format_args!("client certificates {certificates}"));
    }
}

fn ledger(settings: &Settings) -> String {
    let path = settings.ledger.path.as_ref().map(|path| path.display().to_string());
    let jsonl = settings.ledger.jsonl.as_ref().map(|jsonl| match jsonl {
        JsonlTarget::Stdout => "JSON lines to stdout".to_owned(),
        JsonlTarget::File(path) => format!("JSON lines to {}", path.display()),
    });
    let kept: Vec<_> = path.into_iter().chain(jsonl).collect();
    if kept.is_empty() { "none".to_owned() } else { kept.join(", ") }
}

fn otlp(otlp: &OtlpSettings) -> String {
    let mut text = otlp.url.to_string();
    if otlp.traces.is_some() {
        push(&mut text, format_args!("spans"));
    }
    if let Some(interval) = otlp.metrics {
        push(&mut text, format_args!("metrics every {interval:?}"));
    }
    push(&mut text, format_args!("as {}", otlp.service_name));
    if let Some(proxy) = &otlp.proxy {
        push(&mut text, format_args!("through {}", proxy.address));
    }
    if !otlp.headers.is_empty() {
        push(&mut text, format_args!("headers: {}", otlp.headers.len()));
    }
    text
}

fn upstream(upstream: &Upstream) -> String {
    let mut text = format!("{}: {} at {}", upstream.name, upstream.provider.as_str(), upstream.url);
    if upstream.provider == Provider::Azure {
        match &upstream.api_version {
            ApiVersion::V1 => push(&mut text, format_args!("v1 URLs")),
            ApiVersion::V1Named(version) => push(&mut text, format_args!("v1 URLs with version {version}")),
            ApiVersion::Dated(version) => push(&mut text, format_args!("deployment URLs of {version}")),
        }
    }
    let auth = match (&upstream.api_key, upstream.provider) {
        (None, _) => upstream.identity.as_ref().map_or("no key", CloudIdentity::describe),
        (Some(_), Provider::Azure) => "key as api-key",
        (Some(_), Provider::Anthropic) => "key as x-api-key, for chat completions as Authorization: Bearer",
        (Some(_), Provider::Gemini) => "key as Authorization: Bearer, on native paths as x-goog-api-key",
        (Some(_), Provider::OpenAi | Provider::Other) => "key as Authorization: Bearer",
    };
    push(&mut text, format_args!("{auth}"));
    if let Some(proxy) = &upstream.proxy {
        push(&mut text, format_args!("through {}", proxy.address));
    }
    if let Some(identity) = &upstream.tls.identity {
        push(&mut text, format_args!("client certificate in {}", identity.certificate));
    }
    if !upstream.tls.ca.is_empty() {
        let instead = if upstream.tls.ca_adds_to_system { "and the system's" } else { "only" };
        let sources: Vec<_> = upstream.tls.ca.iter().map(ToString::to_string).collect();
        push(&mut text, format_args!("authorities in {} {instead}", sources.join(" and ")));
    }
    match upstream.tls.verification {
        Verification::Full => {}
        Verification::Certificate => push(&mut text, format_args!("host name not verified")),
        Verification::None => push(&mut text, format_args!("NOTHING VERIFIED")),
    }
    if let Some(model) = &upstream.default_model {
        push(&mut text, format_args!("default model {model}"));
    }
    for (count, what) in [
        (upstream.models.len(), "model aliases"),
        (upstream.deployments.len(), "deployments"),
        (upstream.query.len(), "query parameters"),
    ] {
        if count > 0 {
            push(&mut text, format_args!("{what}: {count}"));
        }
    }
    if upstream.concurrent > 0 {
        push(&mut text, format_args!("at most {} running requests", upstream.concurrent));
    }
    text
}

fn push(text: &mut String, part: fmt::Arguments<'_>) {
    write!(text, ", {part}").expect("a String takes everything");
}

fn route(route: &Route, settings: &Settings) -> String {
    let path = route.path.as_ref().map(|path| format!("path {path}"));
    let model = route.model.as_ref().map(|model| format!("model {model}"));
    let wanted: Vec<_> = path.into_iter().chain(model).collect();
    let wanted = if wanted.is_empty() { "everything".to_owned() } else { wanted.join(", ") };
    let target = match route.target {
        RouteTarget::Upstream(index) => &settings.upstreams[index].name,
        RouteTarget::Group(index) => &settings.groups[index].name,
    };
    format!("{wanted} -> {target}")
}

/// Describes a group: `chat: azure-ptu, then azure-east or azure-west (weight 2)`.
fn group(group: &GroupSettings, settings: &Settings) -> String {
    let member = |member: &MemberSettings| {
        let mut text = settings.upstreams[member.upstream].name.clone();
        let weight = (member.weight != 1).then(|| format!("weight {}", member.weight));
        let notes: Vec<_> = weight.into_iter().chain(member.model.clone()).collect();
        if !notes.is_empty() {
            text += &format!(" ({})", notes.join(", "));
        }
        text
    };
    let tier = |tier: &Vec<MemberSettings>| tier.iter().map(member).collect::<Vec<_>>().join(" or ");
    let tiers: Vec<_> = group.tiers.iter().map(tier).collect();
    let attempts = group.retry.attempts_of(group.members().filter(|member| member.weight > 0).count());
    let mut text = format!("{}: {}, at most {attempts} attempts", group.name, tiers.join(", then "));
    if group.concurrent > 0 {
        push(&mut text, format_args!("at most {} running requests at each member", group.concurrent));
    }
    if let Some(wait) = group.wait {
        push(&mut text, format_args!("waits up to {wait:?} in a queue of {}", group.queue));
    }
    if let Some(probe) = &group.probe {
        push(&mut text, format_args!("probes {probe}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn summary(text: &str) -> String {
        Summary(&config::from_text(text).unwrap_or_else(|mistakes| panic!("{mistakes}"))).to_string()
    }

    #[test]
    fn summary_lists_each_part_of_the_configuration() {
        let text = r#"
            [server]
            workers = 2
            [ledger]
            jsonl = "-"
            [clients.search]
            key = { value = "sg-marker" }
            [upstreams.openai]
            api_key = { value = "sk-marker" }
            models = { fast = "gpt-4.1-mini" }
            [upstreams.azure]
            url = "https://r.openai.azure.com"
            api_version = "2024-10-21"
            api_key = { value = "az-marker" }
            deployments = { "gpt-4o" = "mine" }
            [upstreams.local]
            provider = "other"
            url = "http://127.0.0.1:8000/v1/"
            api_key = "none"
            default_model = "llama"
            headers = { X-Key = { value = "xk-marker" } }
            proxy = { url = "https://proxy.corp", username = "me", password = { value = "pw-marker" } }
            [groups.chat]
            tiers = [["openai", { upstream = "azure", weight = 2 }], [{ upstream = "local", model = "llama" }]]
            [[routes]]
            path = "/azure"
            model = "gpt*"
            upstream = "azure"
            [[routes]]
            model = "llama*"
            upstream = "chat"
            [[routes]]
            upstream = "openai"
        "#;
        let expected = "\
file      none, defaults only
listen    127.0.0.1:8080
workers   2
admin     127.0.0.1:9090
ledger    streamgauge.db, JSON lines to stdout
clients   1: search
upstream  openai: openai at https://api.openai.com/v1, key as Authorization: Bearer, model aliases: 1
upstream  azure: azure at https://r.openai.azure.com, deployment URLs of 2024-10-21, key as api-key, deployments: 1
upstream  local: other at http://127.0.0.1:8000/v1, no key, through https://proxy.corp:443, default model llama
group     chat: openai or azure (weight 2), then local (llama), at most 3 attempts
route     path /azure, model gpt* -> azure
route     model llama* -> chat
route     everything -> openai
";
        assert_eq!(summary(text), expected);
    }

    #[test]
    fn summary_lists_limits_of_clients_teams_and_groups() {
        let text = r#"
            [clients.search]
            key = { value = "sg-marker-of-search" }
            models = ["gpt-5*", "o3"]
            team = "engineering"
            priority = 2
            share = 3
            limits = [{ tokens = "200k", per = "minute", burst = "400k" }, { concurrent = 20 }]
            [clients.support]
            key = { value = "sg-marker-of-support" }
            [teams.engineering]
            team = "company"
            limits = [{ requests = 10, per = "second", at_limit = "warn" }]
            [teams.company]
            limits = [{ tokens = "5M", per = "month" }]
            [upstreams.gpu-1]
            provider = "other"
            url = "http://127.0.0.1:8001/v1"
            api_key = "none"
            default_model = "llama"
            concurrent = 16
            [upstreams.gpu-2]
            provider = "other"
            url = "http://127.0.0.1:8002/v1"
            api_key = "none"
            default_model = "llama"
            [groups.local]
            tiers = [["gpu-1", "gpu-2"]]
            concurrent = 8
            wait = "30s"
            queue = 500
            breaker = { probe = "/v1/models" }
            [[routes]]
            upstream = "local"
        "#;
        let expected = "\
clients   2: search, support
client    search: models gpt-5* and o3, metered endpoints only, priority 2, share 3, in team engineering, \
at most 200000 tokens per minute (burst 400000) and 20 running requests
team      engineering: in team company, at most 10 requests per second (only warns)
team      company: at most 5000000 tokens per month
upstream  gpu-1: other at http://127.0.0.1:8001/v1, no key, default model llama, at most 16 running requests
upstream  gpu-2: other at http://127.0.0.1:8002/v1, no key, default model llama
group     local: gpu-1 or gpu-2, at most 2 attempts, at most 8 running requests at each member, \
waits up to 30s in a queue of 500, probes /v1/models
";
        let summary = summary(text);
        assert!(summary.contains(expected), "{summary}");
        assert!(!summary.contains("marker"), "{summary}");
    }

    #[test]
    fn summary_without_routes_names_the_only_upstream() {
        let text = "[admin]\nlisten = \"\"\n[ledger]\npath = \"\"\n[upstreams.openai]\napi_key = { value = \"sk-marker\" }";
        let summary = summary(text);
        for line in
            ["admin     none\n", "ledger    none\n", "clients   none: any client", "everything -> openai\n"]
        {
            assert!(summary.contains(line), "{line:?} in {summary}");
        }
        assert!(!summary.contains("marker"));
    }

    #[test]
    fn summary_names_collector_without_its_secrets() {
        let text = "[otlp]\nendpoint = \"https://otlp.example/x/\"\nmetrics = false\nheaders = { authorization = \"k-marker\" }\n[upstreams.openai]\napi_key = { value = \"sk-marker\" }";
        let summary = summary(text);
        assert!(
            summary.contains("otlp      https://otlp.example/x, spans, as streamgauge, headers: 1\n"),
            "{summary}"
        );
        assert!(!summary.contains("marker"), "{summary}");
    }

    #[test]
    fn summary_says_what_protects_the_admin_pages() {
        let text = "[admin]\nlisten = \"0.0.0.0:9090\"\ntoken = { value = \"0123456789-marker\" }\n[upstreams.openai]\napi_key = { value = \"sk-marker\" }";
        let summary = summary(text);
        assert!(
            summary.contains("admin     0.0.0.0:9090, token\n") && !summary.contains("marker"),
            "{summary}"
        );
    }
}
