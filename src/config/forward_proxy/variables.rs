//! Forward proxies in the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, by
//! curl's rules.
//!
//! The variable of the target's scheme comes before `ALL_PROXY`, lower case comes before upper
//! case, and an empty variable is ignored. Two differences from curl: upper-case `HTTP_PROXY`
//! counts (curl ignores it because a CGI program gets it from a client's `Proxy` header), and a
//! proxy without a port has the default port of its scheme (curl's default is 1080).

use std::collections::BTreeMap;

use crate::support::Hosts;

/// The variable that names the forward proxy for a target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProxyVariable<'a> {
    /// The variable's name.
    pub variable: &'static str,
    /// Its value, which may contain a password.
    pub value: &'a str,
}

/// The variable of `env` that applies to a target. `None`: connect directly.
pub fn proxy_variable<'a>(
    env: &'a BTreeMap<String, String>,
    is_https: bool,
    host: &str,
) -> Option<ProxyVariable<'a>> {
    let own: [&'static str; 2] =
        if is_https { ["https_proxy", "HTTPS_PROXY"] } else { ["http_proxy", "HTTP_PROXY"] };
    let chosen = first(env, &own).or_else(|| first(env, &["all_proxy", "ALL_PROXY"]))?;
    bypass_variable(env, host).is_none().then_some(chosen)
}

/// The variable that excludes a target from the environment's forward proxies.
pub fn bypass_variable(env: &BTreeMap<String, String>, host: &str) -> Option<&'static str> {
    let no = first(env, &["no_proxy", "NO_PROXY"])?;
    Hosts::no_proxy(no.value).contains(host).then_some(no.variable)
}

/// The first of these variables that is set and not empty.
fn first<'a>(env: &'a BTreeMap<String, String>, names: &[&'static str]) -> Option<ProxyVariable<'a>> {
    names.iter().find_map(|&variable| {
        let value = env.get(variable).filter(|value| !value.is_empty())?;
        Some(ProxyVariable { variable, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value chosen for `https://host` and for `http://host`.
    fn choose<'a>(env: &[(&str, &'a str)], host: &str) -> [Option<&'a str>; 2] {
        let tree = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        [true, false].map(|is_https| {
            let chosen = proxy_variable(&tree, is_https, host)?;
            env.iter().map(|(_, value)| *value).find(|value| *value == chosen.value)
        })
    }

    #[test]
    fn scheme_variable_comes_before_all_proxy_and_lower_case_first() {
        for (env, expected) in [
            (&[][..], [None, None]),
            (&[("HTTPS_PROXY", "s")], [Some("s"), None]),
            (&[("HTTP_PROXY", "p")], [None, Some("p")]),
            (&[("http_proxy", "p"), ("HTTP_PROXY", "P")], [None, Some("p")]),
            (&[("https_proxy", "s"), ("HTTPS_PROXY", "S")], [Some("s"), None]),
            (&[("ALL_PROXY", "A"), ("HTTPS_PROXY", "S")], [Some("S"), Some("A")]),
            (&[("all_proxy", "a"), ("ALL_PROXY", "A")], [Some("a"), Some("a")]),
            (&[("https_proxy", ""), ("HTTPS_PROXY", "S")], [Some("S"), None]),
            (&[("HTTPS_PROXY", ""), ("ALL_PROXY", "A")], [Some("A"), Some("A")]),
        ] {
            assert_eq!(choose(env, "llm.internal"), expected, "{env:?}");
        }
    }

    #[test]
    fn no_proxy_excludes_hosts_and_loopback_only_if_listed() {
        for (no_proxy, host, straight) in [
            ("", "127.0.0.1", false),
            ("", "localhost", false),
            ("localhost,127.0.0.1", "localhost", true),
            ("internal", "llm.internal", true),
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "llm.internal", false),
            ("*", "anything", true),
        ] {
            for name in ["no_proxy", "NO_PROXY"] {
                let chosen = choose(&[("ALL_PROXY", "A"), (name, no_proxy)], host);
                assert_eq!(chosen == [None, None], straight, "{name}={no_proxy:?} for {host}");
            }
        }
        let both = [("ALL_PROXY", "A"), ("no_proxy", "a"), ("NO_PROXY", "b")];
        assert_eq!(choose(&both, "b"), [Some("A"); 2], "lower case comes first");
    }
}
