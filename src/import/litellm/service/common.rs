//! The parameters that deployments of all providers have.

use super::{Build, report};
use crate::import::litellm::secret::{Place, variable};
use crate::import::toml_text::{key, quoted, seconds};
use crate::import::yaml::Value;

impl Build<'_, '_> {
    /// The parameters that all providers have.
    pub(super) fn common(&mut self, kind: &str) {
        if let Some((node, text)) =
            self.parameters.get("organization").and_then(|node| Some((node, node.text()?)))
        {
            let path = self.parameters.at("organization");
            match (kind, variable(text)) {
                ("openai", None) => {
                    self.lines.push(format!("organization = {}", quoted(text)));
                    self.findings.taken(&path, node);
                }
                (_, Some(name)) => {
                    self.findings.by_hand(
                        &path,
                        node,
                        &format!("is no secret here: write the value of {name}"),
                    );
                }
                (_, None) => self.findings.not_here(&path, node, "an organization is sent to OpenAI only"),
            }
        }
        self.headers();
        self.timeouts();
        if let Some(node) = self.parameters.get("ssl_verify") {
            let path = self.parameters.at("ssl_verify");
            match (&node.value, node.text()) {
                (Value::Bool(false), _) => {
                    self.findings.taken(&path, node);
                    self.tables.push(("tls", vec!["verification_mode = \"none\"".to_owned()]));
                }
                (Value::Bool(true), _) => self.findings.taken(&path, node),
                (_, Some(file)) if variable(file).is_none() => {
                    self.findings.taken(&path, node);
                    self.tables.push(("tls", vec![format!("ca = [{{ file = {} }}]", quoted(file))]));
                }
                _ => self.findings.by_hand(&path, node, "name the file of the authorities in `tls.ca`"),
            }
        }
    }

    fn headers(&mut self) {
        let mut pairs = Vec::new();
        for name in ["extra_headers", "headers"] {
            let Some(node) = self.parameters.get(name) else { continue };
            for (header, node) in node.entries() {
                let path = format!("{}.{header}", self.parameters.at(name));
                let Some(text) = node.text().map(str::to_owned).or_else(|| Some(node.number()?.to_string()))
                else {
                    self.findings.by_hand(&path, node, "is no text");
                    continue;
                };
                if is_secret_header(header) {
                    let variable = header.to_ascii_uppercase().replace('-', "_");
                    let place = self.secrets.read(&text, &variable);
                    report(self.findings, &path, node, &place);
                    if !matches!(place, Place::Elsewhere | Place::NoKey) {
                        pairs.push(format!("{} = {}", key(header), place.toml()));
                    }
                    continue;
                }
                let value = match variable(&text) {
                    Some(variable) => format!("{{ env = {} }}", quoted(variable)),
                    None => quoted(&text),
                };
                self.findings.taken(&path, node);
                pairs.push(format!("{} = {value}", key(header)));
            }
        }
        if !pairs.is_empty() {
            self.lines.push(format!("headers = {{ {} }}", pairs.join(", ")));
        }
    }

    fn timeouts(&mut self) {
        const NOTE: &str = "it bounds each wait for the service, not the whole request";
        let mut own = |key: &str| {
            let node = self.parameters.get(key)?;
            let path = self.parameters.at(key);
            match node.number().filter(|number| *number > 0.0) {
                Some(number) => {
                    self.findings.near(&path, node, NOTE);
                    Some(number)
                }
                None => {
                    self.findings.by_hand(&path, node, "is no number of seconds");
                    None
                }
            }
        };
        let (whole, stream) = (own("timeout"), own("stream_timeout"));
        let whole = whole.or(self.parameters.timeout);
        let stream = stream.or(self.parameters.stream_timeout).or(whole);
        let mut pairs = Vec::new();
        if let Some(stream) = stream {
            pairs.push(format!("first_byte = {}, idle = {}", seconds(stream), seconds(stream)));
        }
        if let Some(whole) = whole {
            pairs.push(format!("first_byte_unstreamed = {}", seconds(whole)));
        }
        if !pairs.is_empty() {
            self.lines.push(format!("timeouts = {{ {} }}", pairs.join(", ")));
        }
    }
}

/// Returns true if a header's value is usually a secret, by the header's name.
fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "cookie", "key", "password", "secret", "token"].iter().any(|word| name.contains(word))
}
