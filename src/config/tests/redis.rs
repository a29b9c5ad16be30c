//! `[redis]`: the store of shared limits.

use super::*;
use crate::config::{Redis, RedisAddress};
use crate::gate::limit::WhenAway;

/// A configuration with these keys in `[redis]`, and a limit.
fn text(keys: &str) -> String {
    format!(
        "{OPENAI}[redis]\n{keys}\n[clients.a]\nkey = {{ value = \"sg-0123456789abcdef\" }}\n\
         limits = [{{ requests = 5, per = \"minute\" }}]\n"
    )
}

fn url(url: &str) -> String {
    text(&format!("url = {{ value = \"{url}\" }}"))
}

fn redis(text: &str) -> Redis {
    settings(text).redis.unwrap()
}

#[test]
fn redis_is_off_by_default() {
    assert!(settings(OPENAI).redis.is_none());
}

#[test]
fn redis_url_alone_has_all_defaults() {
    let redis = redis(&url("redis://me:p%40ss@127.0.0.1/3"));
    assert_eq!(redis.nodes, [RedisAddress::Tcp("127.0.0.1".to_owned(), 6379)]);
    assert_eq!((redis.user.as_deref(), redis.database), (Some("me"), 3));
    assert_eq!(redis.password.unwrap().expose(), "p@ss");
    assert!(redis.tls.is_none() && redis.sentinel.is_none());
    assert_eq!((&*redis.prefix, redis.when_away), ("streamgauge", WhenAway::Local));
}

#[test]
fn redis_keys_are_all_read() {
    let redis = redis(&text(
        "url = { value = \"rediss://:p@one:1, rediss://:p@[::1]:2\" }\nprefix = \"eu\"\nwhen_away = \"refuse\"\n\
         sentinel = \"mymaster\"\nsentinel_password = { value = \"s\" }\n[redis.tls]\nverification_mode = \"none\"",
    ));
    let nodes = [("one", 1), ("::1", 2)].map(|(host, port)| RedisAddress::Tcp(host.to_owned(), port));
    assert_eq!(redis.nodes, nodes);
    assert_eq!((&*redis.prefix, redis.when_away), ("eu", WhenAway::Refuse));
    let sentinel = redis.sentinel.unwrap();
    assert_eq!((&*sentinel.service, sentinel.password.unwrap().expose()), ("mymaster", "s"));
    assert_eq!(redis.tls.unwrap().verification, crate::tls::Verification::None);
}

#[test]
fn redis_socket_has_its_login_in_the_query() {
    let redis = redis(&url("unix:///run/redis/redis.sock?db=2&user=u&pass=p"));
    assert_eq!(redis.nodes, [RedisAddress::Unix("/run/redis/redis.sock".into())]);
    assert_eq!((redis.user.as_deref(), redis.database), (Some("u"), 2));
}

#[test]
fn redis_mistakes_are_named_and_repeat_no_password() {
    for (keys, key, reason) in [
        ("prefix = \"a\"", "redis.url", "is missing: write url = { env = \"NAME\" }"),
        ("url = \"redis://h\"", "redis.url", "is a secret, which is a table"),
        ("url = { value = \"http://:tell@h\" }", "redis.url", "is not a URL of Redis or Valkey"),
        ("url = { value = \"tell@h\" }", "redis.url", "is not a URL of Redis or Valkey"),
        ("url = { value = \"redis://\" }", "redis.url", "is not a URL of Redis or Valkey"),
        ("url = { value = \"redis://:tell@h/x\" }", "redis.url", "a database that is not a number"),
        ("url = { value = \"redis://:tell@h/-1\" }", "redis.url", "has a negative database"),
        ("url = { value = \"redis://h?protocol=tell\" }", "redis.url", "a protocol that is none"),
        (
            "url = { value = \"redis://:tell@h,redis://:other@i\" }",
            "redis.url",
            "different schemes, users, passwords",
        ),
        ("url = { value = \"redis://h/1,redis://i/1\" }", "redis.url", "has only the database 0"),
        ("url = { value = \"redis://h\" }\nprefix = \"a b\"", "redis.prefix", "has braces or spaces"),
        ("url = { value = \"redis://h\" }\nprefix = \"{a}\"", "redis.prefix", "has braces or spaces"),
        ("url = { value = \"redis://h\" }\nprefix = \"\"", "redis.prefix", "is empty"),
        ("url = { value = \"redis://h\" }\nwhen_away = \"deny\"", "redis.when_away", "\"refuse\""),
        ("url = { value = \"redis://h\" }\nsentinel = \"a b\"", "redis.sentinel", "such as \"mymaster\""),
        ("url = { value = \"unix:///s\" }\nsentinel = \"a\"", "redis.sentinel", "which is a socket"),
    ] {
        let found = mistakes(&text(keys));
        let is_named = |text: &String| text.contains(key) && text.contains(reason);
        assert!(found.iter().any(is_named), "{keys}: {found:?}");
        assert!(found.iter().all(|text| !text.contains("tell")), "{found:?}");
    }
}

#[test]
fn redis_warnings_name_what_is_in_the_clear_or_unused() {
    for (text, key, reason) in [
        (url("redis://:p@redis.internal"), "redis.url", "in the clear: write rediss://"),
        (text("url = { value = \"redis://[::1]\" }\n[redis.tls]"), "redis.tls", "has no effect"),
        (
            text("url = { value = \"redis://localhost\" }\nsentinel_password = { value = \"p\" }"),
            "redis.sentinel_password",
            "has no effect without redis.sentinel",
        ),
        (
            format!("{OPENAI}[redis]\nurl = {{ value = \"redis://localhost\" }}\n"),
            "redis.url",
            "no clients, no limits",
        ),
    ] {
        let warnings = from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}")).warnings;
        let is_named = |warning: &String| warning.contains(key) && warning.contains(reason);
        assert!(
            warnings.iter().map(ToString::to_string).any(|warning| is_named(&warning)),
            "{key}: {warnings:?}"
        );
    }
    let loaded = from_text(&url("rediss://redis.internal")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}
