//! `router_settings`, `litellm_settings`, `general_settings` and `environment_variables`.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::finding::Findings;
use super::secret::{Place, Secrets, variable};
use super::service::report;
use crate::import::toml_text::{quoted, seconds};
use crate::import::yaml::{Node, Value};

/// The settings that decide groups and routes.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// `weight` or `latency`.
    pub(super) balance: Option<&'static str>,
    /// The models to which requests of a model may fall back.
    pub(super) fallbacks: BTreeMap<String, Vec<String>>,
    pub(super) default_fallbacks: Vec<String>,
    /// Other names of models.
    pub(super) aliases: BTreeMap<String, String>,
    /// In seconds, for deployments without their own.
    pub(super) timeout: Option<f64>,
    pub(super) stream_timeout: Option<f64>,
}

const NO_TRANSLATION: &str = "bodies are relayed as they are";
const NO_CALLBACKS: &str =
    "there are no callbacks; OpenTelemetry ([otlp]), JSON lines and the ledger have the records";
const NO_CACHE: &str = "responses are not cached";
const NO_GUARDRAILS: &str = "there are no guardrails";
const NO_DATABASE_MODELS: &str = "models are in the configuration only";

/// Keys without a counterpart, by the beginnings of their names, with the reasons.
const NOT_HERE: [(&str, &str); 28] = [
    ("drop_params", NO_TRANSLATION),
    ("modify_params", NO_TRANSLATION),
    ("additional_drop_params", NO_TRANSLATION),
    ("success_callback", NO_CALLBACKS),
    ("failure_callback", NO_CALLBACKS),
    ("callbacks", NO_CALLBACKS),
    ("callback_settings", NO_CALLBACKS),
    ("service_callback", NO_CALLBACKS),
    ("langfuse", NO_CALLBACKS),
    ("cache", NO_CACHE),
    ("guardrails", NO_GUARDRAILS),
    ("content_policy_fallbacks", "a refusal of content is a response, which is relayed"),
    ("context_window_fallbacks", "an error about the length of the context is a response, which is relayed"),
    ("enable_pre_call_checks", "the length of the context is not checked"),
    ("store_model_in_db", NO_DATABASE_MODELS),
    ("store_prompts_in_spend_logs", "prompts are not stored"),
    ("custom_auth", "keys of clients and client certificates are the means of authentication"),
    ("enable_jwt_auth", "keys of clients and client certificates are the means of authentication"),
    ("litellm_jwtauth", "keys of clients and client certificates are the means of authentication"),
    ("ui_access_mode", "the dashboard has its own [admin] table"),
    ("cost_based", "no price decides a route"),
    ("tag_filtering", "no tag decides a route"),
    ("enable_tag_filtering", "no tag decides a route"),
    ("pass_through_endpoints", "an upstream with provider = \"other\" and a route by path relays other APIs"),
    ("default_team_settings", "teams are [teams.NAME]"),
    ("upperbound_key_generate_params", "`streamgauge keys` makes keys for clients of the configuration"),
    ("default_key_generate_params", "`streamgauge keys` makes keys for clients of the configuration"),
    ("redact_", "contents are neither stored nor logged"),
];

/// Keys that change nothing here.
const NEEDLESS: [&str; 14] = [
    "set_verbose",
    "debug",
    "detailed_debug",
    "proxy_batch_write_at",
    "database_connection_pool_limit",
    "allow_requests_on_db_unavailable",
    "disable_spend_logs",
    "disable_error_logs",
    "telemetry",
    "proxy_config_refresh",
    "turn_off_message_logging",
    "database_connection_timeout",
    "health_check_interval",
    "background_health_checks",
];

impl Settings {
    pub(super) fn read(
        root: &Node,
        findings: &mut Findings,
        secrets: &mut Secrets,
        draft: &mut Draft,
    ) -> Self {
        let mut reading =
            Reading { settings: Self::default(), findings, secrets, draft, redis: BTreeMap::new() };
        for section in ["router_settings", "litellm_settings", "general_settings"] {
            for (key, node) in root.get(section).map(Node::entries).unwrap_or_default() {
                reading.key(&format!("{section}.{key}"), key, node);
            }
        }
        for (key, node) in root.get("environment_variables").map(Node::entries).unwrap_or_default() {
            let note = "the file sets no variables: set it where the program starts";
            reading.findings.by_hand(&format!("environment_variables.{key}"), node, note);
        }
        reading.redis();
        reading.settings
    }
}

struct Reading<'a> {
    settings: Settings,
    findings: &'a mut Findings,
    secrets: &'a mut Secrets,
    draft: &'a mut Draft,
    redis: BTreeMap<&'static str, (String, Node)>,
}

impl Reading<'_> {
    fn key(&mut self, path: &str, key: &str, node: &Node) {
        match key {
            "routing_strategy" => self.strategy(path, node),
            "num_retries" => self.retries(path, node),
            "fallbacks" => self.fallbacks(path, node),
            "default_fallbacks" => {
                let names = node.items().iter().filter_map(Node::text).map(str::to_owned);
                self.settings.default_fallbacks = names.collect();
                self.findings.near(path, node, FALLBACK);
            }
            "model_group_alias" => self.aliases(path, node),
            "timeout" | "request_timeout" | "stream_timeout" => match node.number().filter(|n| *n > 0.0) {
                Some(number) => {
                    let place = match key {
                        "stream_timeout" => &mut self.settings.stream_timeout,
                        _ => &mut self.settings.timeout,
                    };
                    *place = place.or(Some(number));
                    self.findings.near(path, node, "it bounds each wait for the service, not the whole request");
                }
                None => self.findings.by_hand(path, node, "is no number of seconds"),
            },
            "allowed_fails" => match node.count() {
                // LiteLLM's cool-down begins with the failure after these.
                Some(fails) => {
                    self.draft.group_lines.push(format!("breaker.failures = {}", fails + 1));
                    self.findings.near(path, node, "failures in a row are counted, of several clients or prompts");
                }
                None => self.findings.by_hand(path, node, "is no number"),
            },
            "cooldown_time" => match node.number().filter(|number| *number > 0.0) {
                Some(number) => {
                    let pause = seconds(number);
                    self.draft.group_lines.push(format!("breaker.pause = [{pause}, {pause}]"));
                    self.findings.near(path, node, "one request then decides whether the pause ends");
                }
                None => self.findings.by_hand(path, node, "is no number of seconds"),
            },
            "redis_url" => self.keep_redis("url", path, node),
            "redis_host" => self.keep_redis("host", path, node),
            "redis_port" => self.keep_redis("port", path, node),
            "redis_password" => self.keep_redis("password", path, node),
            "master_key" => self.master_key(path, node),
            "database_url" => self.findings.by_hand(
                path,
                node,
                "the virtual keys are in this database: export them and take them over by `streamgauge import litellm-keys`; usage goes to the ledger",
            ),
            "max_parallel_requests" | "global_max_parallel_requests" => match node.count().filter(|n| *n > 0) {
                Some(number) => {
                    self.draft.limits.push(format!("{{ concurrent = {number} }}, # {path}"));
                    self.findings.taken(path, node);
                }
                None => self.findings.by_hand(path, node, "is no number of requests"),
            },
            "max_budget" if path.starts_with("litellm_settings") => {
                let note = "first import prices (`streamgauge prices import`), then write limits = [{ cost = NUMBER, per = \"month\" }]";
                self.findings.by_hand(path, node, note);
            }
            "budget_duration" if path.starts_with("litellm_settings") => {
                self.findings.by_hand(path, node, "is the `per` of a limit of cost");
            }
            "json_logs" => {
                if node.is_true() {
                    self.draft.sections.push(format!("# {path}\n[log]\nformat = \"json\"\n"));
                }
                self.findings.taken(path, node);
            }
            "alerting" | "alerting_threshold" | "alert_types" | "alert_to_webhook_url" | "alerting_args" => {
                self.findings.by_hand(path, node, "write [[alerts]] with the URL of the webhook");
            }
            "retry_after" => self.findings.near(path, node, "the pauses of services that ask for them are kept"),
            "retry_policy" | "model_group_retry_policy" | "allowed_fails_policy" => {
                self.findings.by_hand(path, node, "`retry.on` of a group has the failures after which another member is tried");
            }
            _ if NEEDLESS.contains(&key) => self.findings.near(path, node, "is not needed here"),
            _ => {
                let known = NOT_HERE.iter().find(|(start, _)| key.starts_with(start));
                self.findings.not_here(path, node, known.map_or("has no counterpart", |(_, reason)| reason));
            }
        }
    }

    fn strategy(&mut self, path: &str, node: &Node) {
        let (balance, note) = match node.text().unwrap_or_default() {
            "simple-shuffle" => ("weight", None),
            "latency-based-routing" => {
                ("latency", Some("the expected first event decides between two members"))
            }
            "least-busy" => {
                ("latency", Some("the expected first event decides, which running requests delay"))
            }
            "usage-based-routing" | "usage-based-routing-v2" => {
                ("weight", Some("members are drawn by weight, and those at a limit are skipped"))
            }
            _ => return self.findings.not_here(path, node, "members are chosen by weight or by latency"),
        };
        self.settings.balance = Some(balance);
        match note {
            Some(note) => self.findings.near(path, node, note),
            None => self.findings.taken(path, node),
        }
    }

    fn retries(&mut self, path: &str, node: &Node) {
        let Some(retries) = node.count() else {
            return self.findings.by_hand(path, node, "is no number");
        };
        let is_first = !self.draft.group_lines.iter().any(|line| line.starts_with("retry.attempts"));
        if is_first {
            self.draft.group_lines.push(format!("retry.attempts = {}", retries + 1));
        }
        self.findings.near(
            path,
            node,
            "another member of a group is tried, each once; a single deployment is not tried again",
        );
    }

    fn fallbacks(&mut self, path: &str, node: &Node) {
        for item in node.items() {
            for (model, others) in item.entries() {
                let names = others.items().iter().filter_map(Node::text).map(str::to_owned);
                self.settings.fallbacks.entry(model.clone()).or_default().extend(names);
            }
        }
        self.findings.near(path, node, FALLBACK);
    }

    fn aliases(&mut self, path: &str, node: &Node) {
        for (alias, target) in node.entries() {
            let path = format!("{path}.{alias}");
            let model = target.text().or_else(|| target.get("model")?.text());
            match model {
                Some(model) => {
                    self.settings.aliases.insert(alias.clone(), model.to_owned());
                    let is_hidden = target.get("hidden").is_some_and(Node::is_true);
                    match is_hidden {
                        true => self.findings.near(&path, target, "the alias is in the list of models"),
                        false => self.findings.taken(&path, target),
                    }
                }
                None => self.findings.by_hand(&path, target, "names no model"),
            }
        }
        if node.entries().is_empty() {
            self.findings.taken(path, node);
        }
    }

    fn master_key(&mut self, path: &str, node: &Node) {
        let Some(text) = node.text() else {
            return self.findings.by_hand(path, node, "is no text");
        };
        let place = match self.secrets.read(text, "LITELLM_MASTER_KEY") {
            Place::NoKey | Place::Elsewhere => Place::NewVariable("LITELLM_MASTER_KEY".to_owned()),
            place => place,
        };
        report(self.findings, path, node, &place);
        self.draft.has_clients = true;
        self.draft.sections.push(format!(
            "# {path}: the key with which applications call; it opens no admin page.\n[clients.master]\nkey = {}\n",
            place.toml()
        ));
    }

    fn keep_redis(&mut self, part: &'static str, path: &str, node: &Node) {
        self.redis.insert(part, (path.to_owned(), node.clone()));
    }

    /// `[redis]`, whose URL is one secret.
    fn redis(&mut self) {
        let parts = std::mem::take(&mut self.redis);
        let text = |part: &str| {
            let (_, node) = parts.get(part)?;
            node.text().map(str::to_owned).or_else(|| node.count().map(|count| count.to_string()))
        };
        let is_plain = |part: &str| text(part).is_none_or(|text| variable(&text).is_none());
        let place = match (text("url"), text("host")) {
            (Some(url), _) => self.secrets.read(&url, "REDIS_URL"),
            (None, Some(host)) if !parts.contains_key("password") && is_plain("host") && is_plain("port") => {
                let port = text("port").unwrap_or_else(|| "6379".to_owned());
                Place::Value(format!("redis://{host}:{port}/0"))
            }
            (None, Some(_)) => Place::NewVariable("REDIS_URL".to_owned()),
            (None, None) => {
                for (path, node) in parts.values() {
                    self.findings.by_hand(path, node, "without redis_host: write [redis] with its URL");
                }
                return;
            }
        };
        for (path, node) in parts.values() {
            match &place {
                Place::Variable(_) | Place::Value(_) => {
                    self.findings.near(
                        path,
                        node,
                        "limits and ids are shared there, no cooldowns and no cache",
                    );
                }
                _ => {
                    self.findings.by_hand(path, node, "put redis://USER:PASSWORD@HOST:PORT/0 into REDIS_URL")
                }
            }
        }
        let url = if matches!(place, Place::NoKey | Place::Elsewhere) {
            "{ env = \"REDIS_URL\" }".to_owned()
        } else {
            place.toml()
        };
        self.draft.sections.push(format!("# router_settings.redis_*\n[redis]\nurl = {url}\n"));
    }
}

const FALLBACK: &str = "after failures that `retry.on` has, before any byte has reached the client";

/// The price of a deployment that sets its own.
pub(super) fn price(
    path: &str,
    node: &Node,
    model: &str,
    upstream: &str,
    findings: &mut Findings,
) -> Option<String> {
    const PARTS: [(&str, &str); 4] = [
        ("input_cost_per_token", "input"),
        ("output_cost_per_token", "output"),
        ("cache_read_input_token_cost", "cached_input"),
        ("cache_creation_input_token_cost", "cache_write"),
    ];
    let mut lines = Vec::new();
    for (theirs, ours) in PARTS {
        let Some(value) = node.get(theirs).filter(|value| value.value != Value::Null) else { continue };
        let path = format!("{path}.{theirs}");
        match value.number().filter(|number| (0.0..1.0).contains(number)) {
            Some(number) => {
                let million = format!("{:.6}", number * 1e6);
                lines.push(format!("{ours} = {}", million.trim_end_matches('0').trim_end_matches('.')));
                findings.near(&path, value, "the price is that of the model that responses name");
            }
            None => findings.by_hand(&path, value, "is no price"),
        }
    }
    if lines.is_empty() {
        return None;
    }
    for required in ["input", "output"] {
        if !lines.iter().any(|line| line.starts_with(&format!("{required} = "))) {
            lines.push(format!("{required} = 0"));
        }
    }
    let (model, upstream) = (quoted(model), quoted(upstream));
    Some(format!("# {path}\n[[prices]]\nmodel = {model}\nupstream = {upstream}\n{}\n", lines.join("\n")))
}
