//! Access to the listeners.

use super::mistakes::each;
use super::*;

#[test]
fn access_mistakes() {
    each(
        OPENAI,
        &[
            (
                "[server]\nlisten = \"0.0.0.0:8080\"",
                "server.listen",
                "add [clients.NAME], or require certificates of clients in [server.tls], or set server.allow_anonymous = true",
            ),
            ("[server]\nlisten = \"[::]:8080\"", "server.listen", "can be reached from other machines"),
            ("[server]\nlisten = \"192.0.2.1:8080\"", "server.listen", "can be reached from other machines"),
            ("[admin]\nlisten = \"0.0.0.0:9090\"", "admin.listen", "set admin.token, or"),
            (
                "[admin]\nlisten = \"[::]:9090\"\nhosts = [\"a\"]",
                "admin.listen",
                "which could read all usage records",
            ),
            ("[admin]\ntoken = { value = \"sk-marker\" }", "admin.token", "short enough to be guessed"),
            ("[admin]\ntoken = \"sk-marker\"", "admin.token", "is a secret"),
            (
                "[admin]\nread_token = { value = \"0123456789abcdef\" }",
                "admin.read_token",
                "admin.token is not: set it too",
            ),
            (
                "[admin]\ntoken = { value = \"0123456789abcdef\" }\nread_token = { value = \"0123456789abcdef\" }",
                "admin.read_token",
                "is also admin.token",
            ),
            (
                "[admin]\ntoken = { value = \"0123456789abcdef\" }\nread_token = { value = \"short\" }",
                "admin.read_token",
                "short enough to be guessed",
            ),
            ("[admin]\nuser_header = \"x-user\"", "admin.user_header", "believed from no address"),
            ("[admin]\nuser_header = \"x user\"", "admin.user_header", "is not a header name"),
            (
                "[admin]\nuser_header = \"Cookie\"\ntrusted_proxies = [\"10.0.0.1\"]",
                "admin.user_header",
                "has another meaning",
            ),
            (
                "[admin]\nuser_header = \"x-user\"\ntrusted_proxies = [\"0.0.0.0/0\"]",
                "admin.trusted_proxies",
                "trusts every machine",
            ),
            ("[admin]\nuser_access = \"write\"", "admin.user_access", "write \"read\" or \"change\""),
            ("[admin]\nhosts = [\"http://a\"]", "admin.hosts[0]", "without a scheme and a port"),
            ("[admin]\nhosts = [\"a:9090\"]", "admin.hosts[0]", "without a scheme and a port"),
            ("[admin]\nhosts = \"a\"", "admin.hosts", "must be an array of texts"),
            ("[server]\nhosts = [\"https://a\"]", "server.hosts[0]", "without a scheme and a port"),
            ("[server]\nhosts = [\"a\", \"a:8080\"]", "server.hosts[1]", "without a scheme and a port"),
            ("[server]\nhosts = [\"10.0.0.1\"]", "server.hosts[0]", "leave it out"),
            ("[server]\norigins = [\"https://a/\"]", "server.origins[0]", "write \"https://a\""),
            ("[server]\norigins = [\"a.example\"]", "server.origins[0]", "has no scheme"),
            ("[server]\norigins = [\"*\"]", "server.origins[0]", "list the pages' origins"),
            ("[server]\norigins = [\"null\"]", "server.origins[0]", "sandboxed"),
            ("[admin]\nlisten = \"127.0.0.1:8080\"", "admin.listen", "both server.listen and admin.listen"),
            ("[server]\nlisten = \"127.0.0.1:9090\"", "server.listen", "both server.listen and admin.listen"),
            (
                "[server]\nallow_anonymous = true\nlisten = \"0.0.0.0:9090\"",
                "server.listen",
                "both server.listen and admin.listen",
            ),
            (
                "[server]\nallow_anonymous = true\nlisten = \"[::]:9090\"",
                "server.listen",
                "both server.listen and admin.listen",
            ),
            (
                "[clients.a]\nkey = { value = \"k\" }\n[clients.b]\nkey = { value = \"k\" }",
                "clients.b.key",
                "is the key of clients.a too",
            ),
            ("[clients.a]\n[keys]\nfile = \"\"", "clients.a.key", "is missing"),
            ("[clients]\na = \"sk-marker\"", "clients.a", "must be a table, as in [clients.a], not text"),
            ("[clients.anonymous]\nkey = { value = \"k\" }", "clients.anonymous", "choose another name"),
            ("[clients.\"a b\"]\nkey = { value = \"k\" }", "clients.\"a b\"", "without spaces"),
            ("[clients.\"\"]\nkey = { value = \"k\" }", "clients.\"\"", "1 to 64 bytes"),
        ],
    );
}

#[test]
fn safe_listen_addresses_are_accepted() {
    for text in [
        "[server]\nlisten = \"0.0.0.0:8080\"\n[clients.a]\nkey = { value = \"k\" }",
        "[server]\nlisten = \"0.0.0.0:8080\"\nallow_anonymous = true",
        "[server]\nlisten = \"127.8.8.8:8080\"",
        "[server]\nlisten = \"[::1]:8080\"",
        "[server]\nlisten = \"[::ffff:127.0.0.1]:8080\"",
        "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"",
        "[server]\nlisten = \"127.0.0.2:9090\"",
        "[admin]\nlisten = \"0.0.0.0:9090\"\ntoken = { value = \"0123456789abcdef\" }",
        "[admin]\nhosts = [\"gauge.internal\", \"*.example\", \"*\"]",
        "[server]\nhosts = [\"gauge.internal\", \"*.example\", \"*\"]",
        "[server]\norigins = [\"https://app.example\", \"http://localhost:3000\", \"app://x\"]",
        "[server]\nlisten = \"127.0.0.1:9090\"\n[admin]\nlisten = \"\"",
    ] {
        settings(&format!("{OPENAI}{text}"));
    }
}
