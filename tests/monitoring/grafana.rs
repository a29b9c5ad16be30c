//! Grafana's treatment of a dashboard: reads its panels, queries the values of its variables, and
//! fills both into queries.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// A dashboard of `config/grafana`.
pub struct Dashboard(Value);

/// One query of a panel.
pub struct Query<'a> {
    pub panel: &'a Value,
    pub target: &'a Value,
    /// PromQL or SQL, with variables and macros.
    pub text: &'a str,
}

/// A drop-down at the top of the dashboard.
pub struct Variable<'a> {
    pub name: &'a str,
    /// The query for its values.
    pub query: &'a str,
    /// The text for `All`, unchanged.
    pub all: &'a str,
}

impl Dashboard {
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/grafana").join(name);
        Self(serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    }

    /// The whole dashboard.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// All panels except the rows that divide them.
    pub fn panels(&self) -> impl Iterator<Item = &Value> {
        self.0["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
    }

    pub fn queries(&self) -> impl Iterator<Item = Query<'_>> {
        self.panels().flat_map(|panel| {
            let targets = panel["targets"].as_array().unwrap().iter();
            targets.map(move |target| {
                let text = target["expr"].as_str().or(target["rawSql"].as_str());
                Query { panel, target, text: text.expect("PromQL or SQL") }
            })
        })
    }

    /// The variables with fixed values, by their names. The first value is the default.
    pub fn choices(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        let variables = self.0["templating"]["list"].as_array().unwrap().iter();
        variables.filter(|variable| variable["type"] == "custom").map(|variable| {
            // Several values would be quoted.
            assert!(variable["multi"] == false && variable["includeAll"] == false, "{variable}");
            let values = choices(variable["query"].as_str().unwrap());
            assert_eq!(variable["current"]["value"], values[0], "{variable}");
            (variable["name"].as_str().unwrap(), values)
        })
    }

    /// The variables with a query.
    pub fn variables(&self) -> impl Iterator<Item = Variable<'_>> {
        let variables = self.0["templating"]["list"].as_array().unwrap().iter();
        variables.filter(|variable| variable["type"] == "query").map(|variable| {
            assert!(variable["multi"] == true && variable["includeAll"] == true, "{variable}");
            Variable {
                name: variable["name"].as_str().unwrap(),
                query: variable["query"]["query"].as_str().or(variable["query"].as_str()).unwrap(),
                all: variable["allValue"].as_str().unwrap(),
            }
        })
    }
}

/// The values of `text : value, text : value`, whose commas Grafana expects behind a backslash.
fn choices(query: &str) -> Vec<String> {
    let escaped = query.replace("\\,", "\u{0}");
    let pairs = escaped.split(',').map(|pair| pair.replace('\u{0}', ","));
    pairs.map(|pair| pair.split_once(" : ").unwrap().1.trim().to_owned()).collect()
}

/// Fills in `$name` and `${name}`, and `$name(arguments)`, whose arguments have no parentheses in
/// Grafana. `value` gives the text for each.
///
/// # Panics
/// A variable without a value.
pub fn fill(text: &str, value: &dyn Fn(&str, &[&str]) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        filled += before;
        let end =
            |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap(),
            None => after.split_at(end(after)),
        };
        let arguments = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        let (arguments, after) = match arguments.filter(|_| name.starts_with("__")) {
            Some((arguments, after)) => (fill(arguments, value), after),
            None => (String::new(), after),
        };
        let arguments: Vec<_> = arguments.split(',').map(str::trim).collect();
        filled += &value(name, &arguments).unwrap_or_else(|| panic!("${name} stands for nothing in {text}"));
        rest = after;
    }
    filled + rest
}
