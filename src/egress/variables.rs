//! The environment's word on proxies: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, by
//! curl's rules.
//!
//! The target's scheme chooses the variable, the one for all comes second, lower case comes before
//! upper case, and an empty one is none. Two things differ from curl: `HTTP_PROXY` counts in upper
//! case too (this is no CGI program, where a client's `Proxy` header would set it), and a proxy
//! without a port has its scheme's own (curl's 1080 is SOCKS's).

use std::collections::BTreeMap;

use super::hosts::Hosts;

/// The variable that names the proxy for a target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// The variable's name.
    pub variable: &'static str,
    /// What it says, which may hold a password.
    pub value: &'a str,
}

/// What the environment `env` says about a target; `None`: go straight.
pub fn chosen<'a>(env: &'a BTreeMap<String, String>, is_https: bool, host: &str) -> Option<Chosen<'a>> {
    let own: [&'static str; 2] =
        if is_https { ["https_proxy", "HTTPS_PROXY"] } else { ["http_proxy", "HTTP_PROXY"] };
    let chosen = first(env, &own).or_else(|| first(env, &["all_proxy", "ALL_PROXY"]))?;
    spared(env, host).is_none().then_some(chosen)
}

/// The variable that keeps a target from going through a proxy of the environment.
pub fn spared(env: &BTreeMap<String, String>, host: &str) -> Option<&'static str> {
    let no = first(env, &["no_proxy", "NO_PROXY"])?;
    Hosts::no_proxy(no.value).take(host).then_some(no.variable)
}

/// The first of these variables that says something.
fn first<'a>(env: &'a BTreeMap<String, String>, names: &[&'static str]) -> Option<Chosen<'a>> {
    names.iter().find_map(|&variable| {
        let value = env.get(variable).filter(|value| !value.is_empty())?;
        Some(Chosen { variable, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value chosen for `https://host` and for `http://host`.
    fn choose<'a>(env: &[(&str, &'a str)], host: &str) -> [Option<&'a str>; 2] {
        let tree = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        [true, false].map(|is_https| {
            let chosen = chosen(&tree, is_https, host)?;
            env.iter().map(|(_, value)| *value).find(|value| *value == chosen.value)
        })
    }

    #[test]
    fn the_targets_scheme_chooses_lower_case_comes_first_and_the_one_for_all_last() {
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
    fn no_proxy_sends_straight_and_this_machine_is_no_exception_by_itself() {
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
