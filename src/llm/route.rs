//! The table of routes. The first rule that matches decides the target.
//!
//! A rule may match a prefix of the path, the model, both or neither. Prefixes are compared byte by
//! byte and end at the end of a segment: `/azure` matches `/azure` and `/azure/v1`, but not
//! `/azurex`.

mod glob;

pub use glob::Glob;

#[derive(Clone, Debug)]
pub struct Rule<T> {
    /// The prefix of the path; `None` matches every path.
    pub path: Option<String>,
    /// The pattern of the model; `None` matches every request, also one without a model.
    pub model: Option<Glob>,
    pub target: T,
}

/// A request's route.
#[derive(Debug, PartialEq, Eq)]
pub struct Match<'t, 'p, T> {
    pub target: &'t T,
    /// The path without the rule's prefix. Begins with a slash if the path did.
    pub rest: &'p str,
}

/// The rules in their order.
#[derive(Clone, Debug)]
pub struct Table<T> {
    /// Prefixes begin with a slash and do not end with one.
    rules: Vec<Rule<T>>,
}

impl<T> Table<T> {
    /// Ignores a slash at the end of a rule's path, and a missing one at its start.
    pub fn new(mut rules: Vec<Rule<T>>) -> Self {
        for rule in &mut rules {
            let path = rule.path.take().unwrap_or_default();
            let path = path.trim_matches('/');
            rule.path = (!path.is_empty()).then(|| format!("/{path}"));
        }
        Self { rules }
    }

    /// Returns true if the model may decide the route: the first rule that matches the path has a
    /// model.
    pub fn needs_model(&self, path: &str) -> bool {
        self.first(path).is_some_and(|(rule, _)| rule.model.is_some())
    }

    /// The first rule that matches the path, for any model, and the path without its prefix.
    pub fn first<'t, 'p>(&'t self, path: &'p str) -> Option<(&'t Rule<T>, &'p str)> {
        self.rules.iter().find_map(|rule| Some((rule, rule.rest(path)?)))
    }

    /// The first rule that matches the path and the model. A rule with a model does not match a
    /// request without one.
    pub fn find<'t, 'p>(&'t self, path: &'p str, model: Option<&str>) -> Option<Match<'t, 'p, T>> {
        self.rules.iter().find_map(|rule| {
            let rest = rule.rest(path)?;
            let takes = rule.model.as_ref().is_none_or(|glob| model.is_some_and(|model| glob.matches(model)));
            takes.then_some(Match { target: &rule.target, rest })
        })
    }

    /// The rules that decide requests with this path, each with the rest of the path: those that
    /// match it, up to the first that matches every model.
    pub fn reachable<'t, 'p>(&'t self, path: &'p str) -> impl Iterator<Item = (&'t Rule<T>, &'p str)> {
        let matching = self.rules.iter().filter_map(move |rule| Some((rule, rule.rest(path)?)));
        matching.scan(false, |is_over, (rule, rest)| {
            let was_over = std::mem::replace(is_over, rule.model.is_none());
            (!was_over).then_some((rule, rest))
        })
    }

    /// Returns true if requests may be routed differently.
    pub fn has_choice(&self) -> bool {
        self.rules.len() > 1 || self.rules.iter().any(|rule| rule.model.is_some())
    }

    /// The targets of all rules.
    pub fn targets(&self) -> impl Iterator<Item = &T> {
        self.rules.iter().map(|rule| &rule.target)
    }

    /// Replaces the target of each rule.
    pub fn map<U>(&self, mut target: impl FnMut(&T) -> U) -> Table<U> {
        let rules = self.rules.iter().map(|rule| Rule {
            path: rule.path.clone(),
            model: rule.model.clone(),
            target: target(&rule.target),
        });
        Table { rules: rules.collect() }
    }
}

impl<T> Rule<T> {
    /// The path without this rule's prefix; `None`: the path does not match.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let Some(prefix) = &self.path else {
            return Some(path);
        };
        match path.strip_prefix(prefix.as_str())? {
            "" => Some("/"),
            rest => rest.starts_with('/').then_some(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules from `path model`, `-` for none; the target is the rule's index.
    fn table(rules: &[(&str, &str)]) -> Table<usize> {
        let some = |text: &str| (text != "-").then(|| text.to_owned());
        let rule = |(target, (path, model)): (usize, &(&str, &str))| Rule {
            path: some(path),
            model: some(model).map(|model| Glob::new(&model)),
            target,
        };
        Table::new(rules.iter().enumerate().map(rule).collect())
    }

    fn target(table: &Table<usize>, path: &str, model: Option<&str>) -> Option<usize> {
        table.find(path, model).map(|found| *found.target)
    }

    #[test]
    fn one_catch_all_takes_everything_as_it_is() {
        let table = table(&[("-", "-")]);
        for path in ["/v1/chat/completions", "/", "", "*"] {
            assert_eq!(table.find(path, None), Some(Match { target: &0, rest: path }));
            assert!(!table.needs_model(path));
        }
    }

    #[test]
    fn a_prefix_ends_where_a_segment_ends_and_is_taken_off() {
        let table = table(&[("/azure", "-")]);
        for (path, rest) in [
            ("/azure/v1/models", Some("/v1/models")),
            ("/azure/", Some("/")),
            ("/azure", Some("/")),
            ("/azure//x", Some("//x")),
            ("/azurex/v1", None),
            ("/Azure/v1", None),
            ("/x/azure/v1", None),
            ("/%61zure/v1", None),
            ("azure/v1", None),
            ("/", None),
        ] {
            assert_eq!(table.find(path, None).map(|found| found.rest), rest, "{path}");
        }
    }

    #[test]
    fn slashes_around_a_rules_path_change_nothing() {
        for path in ["/team/a", "/team/a/", "team/a"] {
            assert_eq!(table(&[(path, "-")]).find("/team/a/v1", None).unwrap().rest, "/v1", "{path}");
        }
        for path in ["/", ""] {
            assert_eq!(table(&[(path, "-")]).find("/v1", None).unwrap().rest, "/v1", "{path:?}");
        }
    }

    #[test]
    fn the_first_match_wins() {
        let table = table(&[("/a", "gpt*"), ("/a", "-"), ("-", "gpt*"), ("-", "llama*")]);
        for (path, model, expected) in [
            ("/a/v1", Some("gpt-4o"), Some(0)),
            ("/a/v1", Some("llama"), Some(1)),
            ("/a/v1", None, Some(1)),
            ("/v1", Some("gpt-4o"), Some(2)),
            ("/v1", Some("llama"), Some(3)),
            ("/v1", Some("other"), None),
            ("/v1", None, None),
        ] {
            assert_eq!(target(&table, path, model), expected, "{path} {model:?}");
        }
    }

    #[test]
    fn rules_behind_one_for_every_model_are_not_reachable() {
        let table = table(&[("/a", "x*"), ("-", "y*"), ("/a", "-"), ("-", "z"), ("-", "-")]);
        let reachable =
            |path| table.reachable(path).map(|(rule, rest)| (rule.target, rest)).collect::<Vec<_>>();
        assert_eq!(reachable("/a/v1"), [(0, "/v1"), (1, "/a/v1"), (2, "/v1")]);
        assert_eq!(reachable("/v1"), [(1, "/v1"), (3, "/v1"), (4, "/v1")]);
    }

    #[test]
    fn a_rule_that_asks_for_a_model_takes_no_request_without_one() {
        assert_eq!(target(&table(&[("-", "*")]), "/v1", None), None);
        assert_eq!(target(&table(&[("-", "*")]), "/v1", Some("")), Some(0));
    }

    #[test]
    fn the_model_is_needed_only_where_it_may_decide() {
        let table = table(&[("/plain", "-"), ("/both", "a"), ("/both", "-"), ("-", "llama*"), ("-", "-")]);
        for (path, needs) in [("/plain/v1", false), ("/both/v1", true), ("/v1", true), ("/plainx", true)] {
            assert_eq!(table.needs_model(path), needs, "{path}");
        }
        assert!(!super::Table::<usize>::new(Vec::new()).needs_model("/v1"), "no rule asks");
    }

    #[test]
    fn no_model_changes_the_route_if_none_is_needed() {
        let table = table(&[("/a", "-"), ("/b", "x*"), ("-", "-")]);
        for path in ["/a", "/a/v1", "/b/v1", "/c"] {
            if !table.needs_model(path) {
                assert_eq!(table.find(path, None), table.find(path, Some("x")), "{path}");
                let first = table.first(path).map(|(rule, rest)| Match { target: &rule.target, rest });
                assert_eq!(first, table.find(path, None), "{path}");
            }
        }
    }
}
