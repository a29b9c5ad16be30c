//! Keys by the admin port: made, listed, replaced and revoked, by programs and by forms.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{CHAT_BODY, Client, PATIENCE, Program, Proxy, Response, Upstream, proxy, sized, until};

const TOKEN: &str = "0123456789abcdef-marker";

const READ_TOKEN: &str = "fedcba9876543210-marker";

const CLIENTS: &str = "[clients.search]\n[clients.support]\n";

/// The time within which a change of the stored keys takes effect.
const SOON: Duration = Duration::from_secs(2);

struct Keyed {
    program: Program,
    proxy: Proxy,
    _up: Upstream,
}

impl Keyed {
    fn new() -> Self {
        Self::with(CLIENTS)
    }

    /// A proxy with these tables.
    fn with(tables: &str) -> Self {
        let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
        let program = Program::unconfigured();
        let admin = format!(
            "listen = \"127.0.0.1:0\"\ntoken = {{ value = {TOKEN:?} }}\nread_token = {{ value = {READ_TOKEN:?} }}"
        );
        let built = proxy().admin_lines(&admin).ledger(&program.path("a.db")).upstream(&up);
        program.configure(&built.tables(tables).text());
        let proxy = proxy().run_from(&program.path("streamgauge.toml"));
        Self { program, proxy, _up: up }
    }

    fn send(&self, line: &str, headers: &str, body: &str) -> Response {
        let (admin, length) = (self.proxy.admin(), body.len());
        let head = format!(
            "{line} HTTP/1.1\r\nhost: {admin}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        Client::connect(admin).send(head + body).response()
    }

    /// A request with the full token.
    fn ask(&self, line: &str, body: &str) -> Response {
        self.send(line, &format!("authorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n"), body)
    }

    fn json(&self, line: &str, body: &str) -> Value {
        let response = self.ask(line, body);
        assert!(response.status() < 300, "{line}: {}", response.text());
        serde_json::from_slice(response.body()).unwrap()
    }

    fn create(&self, body: &str) -> Value {
        let response = self.ask("POST /keys", body);
        assert_eq!(response.status(), 201, "{}", response.text());
        assert_eq!(response.header("cache-control"), Some("no-store"));
        serde_json::from_slice(response.body()).unwrap()
    }

    fn refusal(&self, line: &str, body: &str) -> (u16, String, String) {
        let response = self.ask(line, body);
        let error = response.error();
        let text = |name: &str| error[name].as_str().unwrap().to_owned();
        (response.status(), text("code"), text("message"))
    }

    /// The status of a request to the proxy with this key.
    fn status(&self, key: &Value) -> u16 {
        let key = key.as_str().unwrap();
        let request =
            format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n");
        self.proxy.client().send(request).response().status()
    }

    /// Waits until requests with the key have this status.
    fn wait_for(&self, key: &Value, status: u16) {
        until(SOON, "the change of the key", || (self.status(key) == status).then_some(()));
    }
}

#[test]
fn key_from_the_admin_port_is_accepted_until_it_is_revoked() {
    let keyed = Keyed::new();
    let created = keyed.create("{\"client\":\"search\",\"until\":\"90d\"}");
    assert!(created["key"].as_str().unwrap().starts_with("sg-") && created["until"].is_string(), "{created}");
    keyed.wait_for(&created["key"], 200);
    let listed = until(SOON, "the last use", || {
        let listed = keyed.json("GET /keys", "");
        (!listed["keys"][0]["last_used"].is_null()).then_some(listed)
    });
    let key = &listed["keys"][0];
    assert_eq!((&key["client"], &key["id"]), (&json!("search"), &created["id"]));
    assert!(!listed.to_string().contains(&created["key"].as_str().unwrap()[3..]), "{listed}");
    // The command shows the same.
    let output = keyed.program.command(&["keys", "list", "--format", "json"]).output().unwrap();
    let of_command: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(of_command["keys"], listed["keys"]);
    let id = created["id"].as_str().unwrap();
    let revoked = keyed.json(&format!("DELETE /keys/{id}"), "");
    assert_eq!(revoked["revoked"][0]["id"], id);
    keyed.wait_for(&created["key"], 401);
    assert_eq!(keyed.refusal(&format!("DELETE /keys/{id}"), "").1, "no_key");
}

#[test]
fn rotated_key_ends_after_its_grace() {
    let keyed = Keyed::new();
    let old = keyed.create("{\"client\":\"search\"}");
    let new = keyed.json("POST /keys/rotate", "{\"client\":\"search\"}");
    assert_eq!(new["replaced"][0]["id"], old["id"]);
    keyed.wait_for(&new["key"], 200);
    assert_eq!(keyed.status(&old["key"]), 200, "in the overlap");
    let newest = keyed.json("POST /keys/rotate", "{\"client\":\"search\",\"grace\":\"0s\"}");
    keyed.wait_for(&newest["key"], 200);
    for key in [&old["key"], &new["key"]] {
        keyed.wait_for(key, 401);
    }
}

#[test]
fn keys_need_the_full_token_and_a_page_of_this_host() {
    let keyed = Keyed::new();
    let body = "{\"client\":\"search\"}";
    let json = "content-type: application/json\r\n";
    for line in ["GET /keys", "POST /keys", "POST /keys/rotate", "DELETE /keys/00000000"] {
        assert_eq!(keyed.send(line, json, body).status(), 401, "{line}");
        let read = format!("authorization: Bearer {READ_TOKEN}\r\n{json}");
        let refused = keyed.send(line, &read, body);
        assert_eq!((refused.status(), &refused.error()["code"]), (403, &json!("read_only")), "{line}");
    }
    for line in ["POST /keys", "POST /keys/rotate", "DELETE /keys/00000000"] {
        let foreign = format!("authorization: Bearer {TOKEN}\r\n{json}sec-fetch-site: cross-site\r\n");
        let refused = keyed.send(line, &foreign, body);
        assert_eq!((refused.status(), &refused.error()["code"]), (403, &json!("cross_origin")), "{line}");
    }
    assert!(!keyed.program.path("keys.toml").exists());
}

#[test]
fn pages_that_are_open_to_every_program_change_no_keys() {
    let up = Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()));
    let proxy = proxy().admin().upstream(&up).run();
    let refused = proxy.page("/keys");
    assert_eq!((refused.status(), &refused.error()["code"]), (403, &json!("token_not_configured")));
    assert!(!proxy.page("/").text().contains("href=\"keys\""));
}

#[test]
fn wrong_request_for_a_key_says_the_right_one() {
    let keyed = Keyed::new();
    for (line, body, code, reason) in [
        ("POST /keys", "{\"client\":\"serch\"}", "unknown_client", "did you mean \"search\"?"),
        (
            "POST /keys",
            "{\"client\":\"search\",\"until\":\"2020-01-01\"}",
            "bad_request",
            "until: \"2020-01-01\" is in the past",
        ),
        ("POST /keys", "{\"client\":\"search\",\"grace\":\"1h\"}", "bad_request", "/keys/rotate"),
        ("POST /keys", "{\"name\":\"search\"}", "bad_request", "send JSON such as"),
        ("POST /keys", "client=search", "bad_request", "send JSON such as"),
        ("POST /keys/rotate", "{\"client\":\"search\"}", "no_key", "no key of search is stored"),
        ("POST /keys/rotate", "{\"client\":\"search\",\"grace\":\"soon\"}", "bad_request", "grace: "),
        ("DELETE /keys/sg-secret", "", "bad_request", "an id has 8 hexadecimal digits"),
        ("DELETE /keys/00000000", "", "no_key", "no key 00000000 is stored"),
    ] {
        let (_, found, message) = keyed.refusal(line, body);
        assert!(found == code && message.contains(reason), "{line} {body}: {found}: {message}");
        assert!(!message.contains("sg-secret"), "{message}");
    }
    let form =
        format!("authorization: Bearer {TOKEN}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
    let refused = keyed.send("POST /keys", &form, "{\"client\":\"search\"}");
    assert_eq!((refused.status(), &refused.error()["code"]), (415, &json!("not_json")));
    assert!(!keyed.program.path("keys.toml").exists());
}

#[test]
fn unwritable_or_missing_place_of_keys_is_said() {
    let keyed = Keyed::with(&format!("{CLIENTS}[keys]\nfile = \"keys/keys.toml\""));
    let (status, code, message) = keyed.refusal("POST /keys", "{\"client\":\"search\"}");
    assert_eq!((status, &*code), (500, "keys_unwritable"), "{message}");
    assert!(message.contains("must exist"), "{message}");
    let folder = keyed.program.path("keys");
    fs::create_dir(&folder).unwrap();
    let created = keyed.create("{\"client\":\"search\"}");
    keyed.wait_for(&created["key"], 200);
    // Root can read every file, so a broken one stands for one that cannot be read.
    let file = folder.join("keys.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&file, "[[keys]]\nclient = 1\n").unwrap();
    let (status, code, _) = keyed.refusal("POST /keys", "{\"client\":\"search\"}");
    assert_eq!((status, &*code), (500, "keys_unreadable"));
    assert_eq!(keyed.status(&created["key"]), 200, "the earlier keys stay in use");
    let without =
        Keyed::with("[clients.search]\nkey = { value = \"sg-0123456789abcdef\" }\n[keys]\nfile = \"\"");
    assert_eq!(without.refusal("GET /keys", "").1, "no_key_store");
}

#[test]
fn new_key_does_not_replace_a_file_that_is_gone() {
    let keyed = Keyed::new();
    let created = keyed.create("{\"client\":\"search\"}");
    keyed.wait_for(&created["key"], 200);
    let file = keyed.program.path("keys.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let (status, code, message) = keyed.refusal("POST /keys", "{\"client\":\"support\"}");
    assert_eq!((status, &*code), (500, "keys_unreadable"));
    assert!(message.contains("its keys are in use: restore it first"), "{message}");
    assert_eq!(keyed.status(&created["key"]), 200);
    fs::write(&file, text).unwrap();
    keyed.create("{\"client\":\"support\"}");
    assert_eq!(keyed.status(&created["key"]), 200);
}

#[test]
fn change_that_is_stored_and_refused_is_said() {
    let own = "[clients.search]\nkeys = [{ sha256 = \"5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5\" }]\n[clients.support]\n";
    let keyed = Keyed::with(own);
    let created = keyed.create("{\"client\":\"support\"}");
    keyed.wait_for(&created["key"], 200);
    let file = keyed.program.path("keys.toml");
    let same = "\n[[keys]]\nclient = \"search\"\nsha256 = \"5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5\"\n";
    fs::write(&file, fs::read_to_string(&file).unwrap() + same).unwrap();
    let revoked = keyed.json(&format!("DELETE /keys/{}", created["id"].as_str().unwrap()), "");
    assert!(revoked["warning"].as_str().unwrap().contains("is the same key as"), "{revoked}");
    assert_eq!(keyed.status(&created["key"]), 200);
}

#[test]
fn forms_of_the_page_make_replace_and_revoke_a_key() {
    let keyed = Keyed::new();
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let login = keyed.send("POST /login", form, &format!("token={TOKEN}"));
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap();
    let browser = format!("cookie: {cookie}\r\naccept: text/html\r\nsec-fetch-site: same-origin\r\n");
    let dashboard = keyed.send("GET /", &browser, "");
    assert!(dashboard.text().contains("href=\"keys\""));
    let page = keyed.send("GET /keys", &browser, "");
    assert!(page.text().contains("<option value=\"support\">") && page.text().contains("No keys are stored"));
    let submit = |fields: &str| keyed.send("POST /keys", &format!("{browser}{form}"), fields);
    let key_on = |page: &Response| {
        let (_, rest) = page.text().split_once("id=\"key\">").expect("a new key");
        json!(rest.split('<').next().unwrap())
    };
    let made = submit("action=create&client=support&until=");
    let first = key_on(&made);
    keyed.wait_for(&first, 200);
    let replaced = submit("action=rotate&client=support&grace=0s");
    let second = key_on(&replaced);
    keyed.wait_for(&first, 401);
    let listed = keyed.json("GET /keys", "");
    let id =
        listed["keys"].as_array().unwrap().iter().find(|key| key["expired"] == false).unwrap()["id"].clone();
    let revoked = submit(&format!("action=revoke&id={}", id.as_str().unwrap()));
    assert!(revoked.text().contains("Revoked"), "{}", revoked.text());
    keyed.wait_for(&second, 401);
    let later = keyed.send("GET /keys", &browser, "");
    assert!(![&first, &second].iter().any(|key| later.text().contains(key.as_str().unwrap())));
    for (fields, status) in
        [("action=create&client=nobody", 400), ("action=other", 400), ("client=search", 400)]
    {
        let wrong = submit(fields);
        assert_eq!(wrong.status(), status, "{fields}");
        assert!(wrong.text().contains("role=\"alert\""), "{fields}");
    }
    let foreign = browser.replace("same-origin", "cross-site");
    assert_eq!(
        keyed.send("POST /keys", &format!("{foreign}{form}"), "action=create&client=search").status(),
        403
    );
    let read = keyed.send("POST /login", form, &format!("token={READ_TOKEN}"));
    let cookie = read.header("set-cookie").unwrap().split(';').next().unwrap();
    let dashboard = keyed.send("GET /", &format!("cookie: {cookie}\r\n"), "");
    assert!(!dashboard.text().contains("href=\"keys\""));
}

#[test]
fn change_whose_client_leaves_is_logged() {
    let address = crate::harness::free_address();
    let admin = format!("listen = \"{address}\"\ntoken = {{ value = {TOKEN:?} }}");
    let program = Program::with_admin(&admin, "path = \"usage.db\"\n[clients.search]\n");
    let serving = program.serve();
    // The change waits for the lock, and its client does not.
    let lock = fs::File::create(program.path("keys.toml.lock")).unwrap();
    lock.lock().unwrap();
    let body = "{\"client\":\"search\"}";
    let mut client = Client::connect(address);
    client.send(format!(
        "POST /keys HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    until(PATIENCE, "the change that waits", || serving.has_open("keys.toml.lock").then_some(()));
    client.reset();
    drop(lock);
    until(PATIENCE, "the line of the log", || {
        serving.has_logged("a key was made on the admin port").then_some(())
    });
    assert!(serving.has_logged("\"client\":\"search\""));
    assert!(fs::read_to_string(program.path("keys.toml")).unwrap().contains("search"));
}
