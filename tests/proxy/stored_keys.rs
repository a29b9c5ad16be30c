//! Keys that `streamgauge keys` stores: from the command to the requests of a running proxy.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use streamgauge::config::reload::ReloadOutcome;

use crate::harness::{
    CHAT_BODY, CHAT_REQUEST, Client, EVENTS_HEAD, LAST_CHUNK, Program, Proxy, Response, Upstream, chunk,
    proxy, sized, until, upstream,
};
use crate::key_commands::{ask, id, keys, line, text};

const TAKEN: ReloadOutcome = ReloadOutcome::Taken { needs_restart: Vec::new(), late_workers: 0 };

/// The time within which a change of the stored keys takes effect.
const SOON: Duration = Duration::from_secs(2);

const CLIENTS: &str = "[clients.search]\n[clients.support]\n";

fn up() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()))
}

/// A proxy with its configuration and its keys in a directory of its own.
struct Keyed {
    program: Program,
    text: String,
    proxy: Proxy,
    _up: Upstream,
}

impl Keyed {
    fn new(up: Upstream) -> Self {
        let program = Program::unconfigured();
        let text = proxy().admin().upstream(&up).tables(CLIENTS).text();
        program.configure(&text);
        let proxy = proxy().run_from(&program.path("streamgauge.toml"));
        Self { program, text, proxy, _up: up }
    }

    fn file(&self) -> PathBuf {
        self.program.path("keys.toml")
    }

    fn keys(&self, arguments: &[&str]) -> Output {
        keys(&self.program, arguments).output().unwrap()
    }

    fn create(&self, client: &str) -> String {
        line(self.keys(&["create", client]))
    }

    /// The stored keys.
    fn list(&self) -> Vec<Value> {
        let listing = json(self.keys(&["list", "--format", "json"]));
        listing["keys"].as_array().unwrap().clone()
    }

    /// Uses changed keys. The proxy's own thread may have taken them over just before.
    fn take_over(&self) {
        let outcome = self.proxy.look();
        assert!(matches!(outcome, ReloadOutcome::Taken { .. } | ReloadOutcome::Unchanged), "{outcome:?}");
    }

    fn ask(&self, key: &str) -> Response {
        ask(&mut self.proxy.client(), key)
    }

    fn status(&self, key: &str) -> u16 {
        self.ask(key).status()
    }

    fn refused(&self) -> f64 {
        self.proxy.metric("streamgauge_config_reloads_total{result=\"refused\"}")
    }
}

fn json(output: Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

/// The message of a command that fails with this status.
fn failure(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Waits until requests with the key have this status. Few are sent, since many refused ones would
/// be delayed.
fn wait_for(keyed: &Keyed, key: &str, status: u16) {
    until(SOON, "the change of the key", || {
        thread::sleep(Duration::from_millis(80));
        (keyed.status(key) == status).then_some(())
    });
}

#[test]
fn created_key_names_its_client_and_revoked_one_is_refused() {
    let keyed = Keyed::new(up());
    let (search, support) = (keyed.create("search"), keyed.create("support"));
    assert!(search.starts_with("sg-") && search.len() == 43, "{search}");
    let stored = fs::read_to_string(keyed.file()).unwrap();
    assert!(!stored.contains(&search[3..]) && stored.contains(&id(&search)), "{stored}");
    assert_eq!(fs::metadata(keyed.file()).unwrap().permissions().mode() & 0o777, 0o600);
    keyed.take_over();
    for (key, client) in [(&search, "search"), (&support, "support")] {
        assert_eq!(keyed.status(key), 200);
        let record = keyed.proxy.record();
        assert_eq!((&record["client"], &record["key_id"]), (&client.into(), &id(key).into()));
    }
    assert_eq!(text(keyed.keys(&["revoke", &id(&search)])), format!("revoked {} of search\n", id(&search)));
    keyed.take_over();
    assert_eq!(keyed.ask(&search).error()["code"], "invalid_api_key");
    assert_eq!(keyed.status(&support), 200);
    assert_eq!(keyed.proxy.look(), ReloadOutcome::Unchanged);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn created_and_revoked_keys_take_effect_within_two_seconds() {
    let keyed = Keyed::new(up());
    let key = keyed.create("search");
    wait_for(&keyed, &key, 200);
    text(keyed.keys(&["revoke", &id(&key)]));
    wait_for(&keyed, &key, 401);
}

#[test]
fn stream_of_a_revoked_key_continues_to_its_end() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let keyed = Keyed::new(upstream(move |connection| {
        while connection.request().is_some() {
            connection.send(EVENTS_HEAD);
            connection.send(chunk(b"data: {\"choices\":[]}\n\n"));
            gone.lock().unwrap().recv().unwrap();
            connection.send([chunk(b"data: [DONE]\n\n"), LAST_CHUNK.into()].concat());
        }
    }));
    let key = keyed.create("search");
    keyed.take_over();
    let mut running = keyed.proxy.client();
    let length = CHAT_REQUEST.len();
    running.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n{CHAT_REQUEST}"
    ));
    let head = running.head();
    assert!(head.contains("200"), "{head}");
    text(keyed.keys(&["revoke", &id(&key)]));
    keyed.take_over();
    assert_eq!(keyed.status(&key), 401);
    go.send(()).unwrap();
    let (body, end) = running.body_and_end(&head);
    assert!(String::from_utf8_lossy(&body).ends_with("[DONE]\n\n"), "{end:?}");
    let outcomes = [keyed.proxy.record(), keyed.proxy.record()].map(|record| record["outcome"].clone());
    assert_eq!(outcomes, ["rejected", "complete"]);
}

/// Sends with one key until told to stop. Returns the times around each request, and its status.
fn load(address: std::net::SocketAddr, key: &str, stop: &AtomicBool) -> Vec<(Timestamp, Timestamp, u16)> {
    let (mut client, mut seen) = (Client::connect(address), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let begin = Timestamp::now();
        let status = ask(&mut client, key).status();
        seen.push((begin, Timestamp::now(), status));
    }
    seen
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn rotation_under_load_refuses_nothing_before_its_end() {
    let keyed = Keyed::new(up());
    let old = keyed.create("search");
    keyed.take_over();
    let (stop, address) = (AtomicBool::new(false), keyed.proxy.address);
    let (of_old, of_new, end) = thread::scope(|scope| {
        let of_old: Vec<_> = (0..2).map(|_| scope.spawn(|| load(address, &old, &stop))).collect();
        let rotated = json(keyed.keys(&["rotate", "search", "--grace", "3s", "--format", "json"]));
        let (new, replaced) = (rotated["key"].as_str().unwrap().to_owned(), &rotated["replaced"]);
        assert_eq!((&replaced[0]["id"], replaced.as_array().unwrap().len()), (&id(&old).into(), 1));
        let end: Timestamp = replaced[0]["until"].as_str().unwrap().parse().unwrap();
        // The proxy takes it over by itself.
        wait_for(&keyed, &new, 200);
        let stop = &stop;
        let of_new = scope.spawn(move || load(address, &new, stop));
        let over = end + Duration::from_millis(500);
        until(Duration::from_secs(20), "the end of the old key", || (Timestamp::now() > over).then_some(()));
        stop.store(true, Ordering::Relaxed);
        let of_old: Vec<_> = of_old.into_iter().flat_map(|load| load.join().unwrap()).collect();
        (of_old, of_new.join().unwrap(), end)
    });
    let before: Vec<_> = of_old.iter().filter(|(_, after, _)| *after < end).collect();
    let behind: Vec<_> = of_old.iter().filter(|(begin, ..)| *begin >= end).collect();
    assert!(
        before.len() > 100 && behind.len() > 10 && of_new.len() > 100,
        "{} {}",
        before.len(),
        behind.len()
    );
    assert!(before.iter().all(|(.., status)| *status == 200), "a request was refused in the overlap");
    assert!(behind.iter().all(|(.., status)| *status == 401), "a request was accepted after the end");
    assert!(of_new.iter().all(|(.., status)| *status == 200), "a request with the new key was refused");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn key_that_is_revoked_under_load_is_refused_within_two_seconds() {
    let keyed = Keyed::new(up());
    let key = keyed.create("search");
    keyed.take_over();
    let (stop, address) = (AtomicBool::new(false), keyed.proxy.address);
    let (seen, begun, revoked) = thread::scope(|scope| {
        let loads: Vec<_> = (0..2).map(|_| scope.spawn(|| load(address, &key, &stop))).collect();
        (0..50).for_each(|_| assert_eq!(keyed.status(&key), 200));
        let begun = Timestamp::now();
        text(keyed.keys(&["revoke", &id(&key)]));
        let revoked = Timestamp::now();
        // The refusals of an address with many unknown keys take a second each.
        let over = revoked + SOON + Duration::from_millis(1_500);
        until(Duration::from_secs(20), "two seconds", || (Timestamp::now() > over).then_some(()));
        stop.store(true, Ordering::Relaxed);
        (loads.into_iter().flat_map(|load| load.join().unwrap()).collect::<Vec<_>>(), begun, revoked)
    });
    let before = seen.iter().filter(|(_, after, _)| *after < begun);
    let behind = seen.iter().filter(|(begin, ..)| *begin >= revoked + SOON);
    assert!(before.clone().count() > 10 && behind.clone().count() > 0, "{} requests", seen.len());
    assert!(before.into_iter().all(|(.., status)| *status == 200), "a request was refused before");
    assert!(behind.into_iter().all(|(.., status)| *status == 401), "a request was accepted later than 2 s");
}

#[test]
fn commands_at_the_same_time_lose_no_key() {
    let keyed = Keyed::new(up());
    let spawn = |client| {
        let mut command = keys(&keyed.program, &["create", client]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let created: Vec<_> = (0..8).map(|number| spawn(["search", "support"][number % 2])).collect();
    let created = created.into_iter().map(|child| text(child.wait_with_output().unwrap()));
    let mut ids: Vec<_> = created.map(|key| id(key.trim_end())).collect();
    let mut listed: Vec<_> = keyed.list().iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, ids);
}

#[test]
fn broken_file_is_refused_once_and_the_earlier_keys_stay() {
    let keyed = Keyed::new(up());
    let key = keyed.create("search");
    keyed.take_over();
    let good = fs::read_to_string(keyed.file()).unwrap();
    let broken = good.replace("sha256", "sha265");
    for (text, reason) in [
        (&*broken, "keys.toml:5: keys[0].sha265: unknown key; did you mean `sha256`?"),
        ("[[keys", "this is not TOML"),
        (&good.repeat(2), "is the same key as"),
        ("", "is missing or empty, and its keys are in use"),
    ] {
        let before = keyed.refused();
        fs::write(keyed.file(), text).unwrap();
        for _ in 0..2 {
            let outcome = keyed.proxy.look();
            assert!(matches!(&outcome, ReloadOutcome::Refused(said) if said.contains(reason)), "{outcome:?}");
        }
        assert_eq!(keyed.refused(), before + 1.0, "{reason}");
        assert_eq!(keyed.status(&key), 200, "{reason}");
        let status = keyed.proxy.page("/config/status");
        assert!(status.text().contains("keys.toml"), "{}", status.text());
    }
    fs::remove_file(keyed.file()).unwrap();
    assert!(matches!(keyed.proxy.look(), ReloadOutcome::Refused(said) if said.contains("is missing")));
    assert_eq!(keyed.status(&key), 200);
    fs::write(keyed.file(), &good).unwrap();
    assert_eq!(keyed.proxy.look(), ReloadOutcome::Unchanged);
    assert_eq!(keyed.proxy.metric("streamgauge_config_last_reload_successful"), 1.0);
    // All keys can be revoked.
    text(keyed.keys(&["revoke", &id(&key)]));
    keyed.take_over();
    assert_eq!(keyed.status(&key), 401);
    fs::remove_file(keyed.file()).unwrap();
    // Nothing is lost by it.
    keyed.take_over();
}

#[test]
fn key_is_revoked_while_the_configuration_is_refused() {
    let keyed = Keyed::new(up());
    let key = keyed.create("search");
    keyed.take_over();
    assert_eq!(keyed.status(&key), 200);
    keyed.program.configure(&format!("{}\nno_such_key = 1\n", keyed.text));
    assert!(matches!(keyed.proxy.reload(), ReloadOutcome::Refused(_)));
    text(keyed.keys(&["revoke", &id(&key)]));
    keyed.proxy.look();
    assert_eq!(keyed.status(&key), 401);
    let status = keyed.proxy.page("/config/status");
    assert!(status.text().contains("no_such_key"), "{}", status.text());
    keyed.program.configure(&keyed.text);
    assert_eq!(keyed.proxy.reload(), ReloadOutcome::Unchanged);
}

#[test]
fn key_is_revoked_by_a_refused_reload_where_no_file_is_watched() {
    let program = Program::unconfigured();
    let up = up();
    let text = proxy().upstream(&up).server("watch = false").tables(CLIENTS).text();
    program.configure(&text);
    let key = self::text(keys(&program, &["create", "search"]).output().unwrap());
    let proxy = proxy().run_from(&program.path("streamgauge.toml"));
    assert_eq!(ask(&mut proxy.client(), key.trim_end()).status(), 200);
    self::text(keys(&program, &["revoke", &id(key.trim_end())]).output().unwrap());
    program.configure(&format!("{text}\n[wrong]\n"));
    assert!(matches!(proxy.reload(), ReloadOutcome::Refused(_)));
    assert_eq!(ask(&mut proxy.client(), key.trim_end()).status(), 401);
}

#[test]
#[cfg(feature = "faults")]
fn key_is_revoked_while_a_reload_reads_a_large_ledger() {
    let program = Program::new("path = \"usage.db\"\n[clients.search]\n");
    let key = text(keys(&program, &["create", "search"]).output().unwrap());
    let mut command = program.command(&["serve"]);
    command.env("STREAMGAUGE_FAULT", "late:seed:1");
    let serving = program.serve_as(command);
    let status = || ask(&mut Client::connect(serving.address), key.trim_end()).status();
    assert_eq!(status(), 200);
    let limited = fs::read_to_string(program.path("streamgauge.toml")).unwrap();
    let limits = "[clients.search]\nlimits = [{ requests = 100, per = \"day\" }]\n";
    program.configure(&limited.replace("[clients.search]\n", limits));
    serving.signal("-HUP");
    text(keys(&program, &["revoke", &id(key.trim_end())]).output().unwrap());
    until(SOON, "the end of the key", || {
        thread::sleep(Duration::from_millis(50));
        (status() == 401).then_some(())
    });
    let is_taken = || serving.has_logged("the new configuration is in use");
    assert!(!is_taken(), "the ledger was read before the key was revoked");
    until(Duration::from_secs(20), "the reload", || is_taken().then_some(()));
    // The reload had read the key.
    assert_eq!(status(), 401);
}

#[test]
fn key_of_a_client_that_is_gone_is_refused() {
    let keyed = Keyed::new(up());
    let (search, support) = (keyed.create("search"), keyed.create("support"));
    keyed.take_over();
    assert_eq!(keyed.status(&search), 200);
    keyed.program.configure(&keyed.text.replace("[clients.search]\n", ""));
    assert_eq!(keyed.proxy.reload(), TAKEN);
    assert_eq!((keyed.status(&search), keyed.status(&support)), (401, 200));
    // Without any client every request would be accepted.
    keyed.program.configure(&keyed.text.replace(CLIENTS, ""));
    let outcome = keyed.proxy.reload();
    let reason = "without any [clients.NAME] every request would be accepted";
    assert!(matches!(&outcome, ReloadOutcome::Refused(said) if said.contains(reason)), "{outcome:?}");
    assert_eq!((keyed.status("none"), keyed.status(&support)), (401, 200));
}

#[test]
fn symlink_that_kubernetes_swaps_is_followed() {
    let keyed = Keyed::new(up());
    let key = keyed.create("search");
    let good = fs::read_to_string(keyed.file()).unwrap();
    fs::remove_file(keyed.file()).unwrap();
    let folder = keyed.program.path("");
    let version = |number: u8, text: &str| {
        let data = folder.join(format!("..{number}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("keys.toml"), text).unwrap();
        symlink(format!("..{number}"), folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    version(1, "# no keys yet\n");
    symlink("..data/keys.toml", keyed.file()).unwrap();
    keyed.take_over();
    assert_eq!(keyed.status(&key), 401);
    version(2, &good);
    fs::remove_dir_all(folder.join("..1")).unwrap();
    keyed.take_over();
    assert_eq!(keyed.status(&key), 200);
    assert_eq!(keyed.proxy.look(), ReloadOutcome::Unchanged);
}

#[test]
fn mistyped_key_is_said_to_be_mistyped() {
    let keyed = Keyed::new(up());
    let key = keyed.create("search");
    let mistyped = format!("{}{}", &key[..42], if key.ends_with('A') { 'B' } else { 'A' });
    // The proxy knows the key only the second time.
    for _ in 0..2 {
        let error = keyed.ask(&mistyped).error();
        assert!(error["message"].as_str().unwrap().contains("is mistyped"), "{error}");
        assert_eq!(error["code"], "invalid_api_key");
        assert!(!keyed.proxy.record().to_string().contains(&key[3..20]));
        keyed.proxy.look();
    }
    let error = keyed.ask("sg-other").error();
    assert!(!error["message"].as_str().unwrap().contains("mistyped"), "{error}");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn address_that_guesses_waits_and_a_valid_key_does_not() {
    let keyed = Keyed::new(up());
    let key = keyed.create("search");
    keyed.take_over();
    let mut client = keyed.proxy.client();
    for number in 0..50 {
        assert_eq!(ask(&mut client, &format!("guess-{number}")).status(), 401);
    }
    let begin = Instant::now();
    let refused = ask(&mut client, "guess");
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(refused.error()["message"].as_str().unwrap().contains("delayed"), "{}", refused.text());
    // A refusal that waits delays no other request of the address.
    let mut waiting = keyed.proxy.client();
    waiting.send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\napi-key: guess\r\n\r\n");
    let begin = Instant::now();
    assert_eq!(ask(&mut client, &key).status(), 200);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(waiting.response().status(), 401);
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
}

#[test]
fn mistakes_of_commands_say_what_to_write() {
    let keyed = Keyed::new(up());
    let key = keyed.create("search");
    let (id, other) = (id(&key), id("other"));
    for (arguments, reason) in [
        (
            &["create", "serch"][..],
            "no client \"serch\": did you mean \"search\"? If not, add [clients.serch]",
        ),
        (&["create", "search", "--until", "2020-01-01"], "--until: \"2020-01-01\" is in the past"),
        (&["create", "search", "--until", "90"], "write \"90s\""),
        (
            &["rotate", "support"],
            "no key of support is stored that could be replaced: write `streamgauge keys create",
        ),
        (&["revoke", &other], "is stored in"),
        (&["revoke", &id, &other], "`streamgauge keys list` shows them"),
        (&["revoke", &key], "an id has 8 hexadecimal digits"),
    ] {
        let said = failure(&keyed.keys(arguments), 2);
        assert!(said.contains(reason) && !said.contains(&key[3..]), "{said}");
    }
    assert_eq!(keyed.list().len(), 1, "nothing has changed");
    let unstored = keyed.text.clone() + "[keys]\nfile = \"\"\n";
    keyed.program.configure(&unstored);
    assert!(failure(&keyed.keys(&["list"]), 2).contains("`file` in [keys] is \"\""));
    let said = failure(&keyed.program.command(&["check"]).output().unwrap(), 2);
    assert!(said.contains("clients.search.key: is missing: write key ="), "{said}");
}

#[test]
fn check_says_which_keys_have_no_effect() {
    let keyed = Keyed::new(up());
    let digest = |key: &str| streamgauge::gate::KeyDigest::of(key.as_bytes()).to_hex();
    let stored = |client: &str, key: &str, more: &str| {
        format!("[[keys]]\nclient = \"{client}\"\nsha256 = \"{}\"\n{more}", digest(key))
    };
    let write = |text: &str| fs::write(keyed.file(), text).unwrap();
    let check = || keyed.program.command(&["check"]).output().unwrap();
    write(&(stored("search", "1", "until = 2026-01-01T00:00:00Z\n") + &stored("serch", "2", "")));
    let output = check();
    let said = String::from_utf8_lossy(&output.stderr);
    for reason in [
        format!("keys.toml: expired, and refused: {}; `streamgauge keys revoke", id("1")),
        format!(
            "keys.toml:5: keys[1]: the key {} is refused: there is no [clients.serch]; did you mean",
            id("2")
        ),
        "clients.support has no key, so that no request is accepted for it: `streamgauge keys create support`"
            .to_owned(),
    ] {
        assert!(said.contains(&reason), "{reason} in {said}");
    }
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("keys      2 in "));
    let own = keyed
        .text
        .replace("[clients.support]\n", "[clients.support]\nkey = { value = \"0123456789abcdef\" }\n");
    keyed.program.configure(&own);
    write(&stored("search", "0123456789abcdef", ""));
    let said = failure(&check(), 2);
    let place = "keys.toml:1: keys[0]: is the same key as streamgauge.toml:";
    assert!(said.contains(place) && said.contains("clients.support.key: remove one of the two"), "{said}");
}

#[test]
fn list_has_the_last_use_of_the_ledger() {
    let program = Program::new("path = \"usage.db\"\n[clients.search]\n");
    let key = text(keys(&program, &["create", "search", "--until", "90d"]).output().unwrap());
    let unused = text(keys(&program, &["create", "search"]).output().unwrap());
    let serving = program.serve();
    let mut client = Client::connect(serving.address);
    assert_eq!(ask(&mut client, key.trim_end()).status(), 200);
    serving.signal("-TERM");
    serving.end();
    let listing = json(keys(&program, &["list", "--format", "json"]).output().unwrap());
    let of = |key: &str| {
        let key = id(key.trim_end());
        listing["keys"].as_array().unwrap().iter().find(|listed| listed["id"] == *key).unwrap().clone()
    };
    let (used, unused) = (of(&key), of(&unused));
    let at = |field: &str| used[field].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(at("last_used") >= at("created") && at("until") > at("last_used"), "{used}");
    assert_eq!((&unused["last_used"], &unused["until"]), (&Value::Null, &Value::Null), "{unused}");
    let output = keys(&program, &["list", "--ledger", "gone.db"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("the last use is unknown"), "{output:?}");
}

/// The options of `unshare` for a namespace of mounts: without root, as the root of a user namespace.
fn namespace() -> &'static str {
    use std::os::unix::fs::MetadataExt as _;

    // The owner of a process's own directory in /proc is its user.
    if fs::metadata("/proc/self").unwrap().uid() == 0 { "-m" } else { "-rm" }
}

/// Runs a command under mounts of its own, which it cannot leave behind.
fn mounted(program: &Program, mounts: &str, arguments: &[&str]) -> Output {
    let script = format!("{mounts} && exec \"$@\"");
    let wrapper = ["unshare", namespace(), "--", "sh", "-c", &script, "sh"].map(str::to_owned);
    program.command_under(&wrapper, arguments).output().unwrap()
}

#[test]
fn folder_that_cannot_be_written_is_named() {
    let keyed = Keyed::new(up());
    let key = keyed.create("search");
    let before = fs::read(keyed.file()).unwrap();
    let folder = keyed.program.path("").display().to_string();
    let read_only =
        format!("mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && cd {folder}");
    let said = failure(&mounted(&keyed.program, &read_only, &["keys", "revoke", &id(&key)]), 1);
    assert!(
        said.contains("keys.toml.lock: Read-only file system") && said.contains("`file` in [keys]"),
        "{said}"
    );
    assert_eq!(fs::read(keyed.file()).unwrap(), before);
}

#[test]
fn full_disk_leaves_the_keys_as_they_were() {
    let keyed = Keyed::new(up());
    let disk = keyed.program.path("disk");
    fs::create_dir(&disk).unwrap();
    keyed.program.configure(&format!("{}\n[keys]\nfile = \"disk/keys.toml\"\n", keyed.text));
    let file = disk.join("keys.toml").display().to_string();
    // Room for a page, which is the first key's.
    let mounts = format!(
        "mount -t tmpfs -o size=8k,mode=755 tmpfs {0} && printf '# none\\n' >{file} && head -c 8k /dev/zero >{0}/filler 2>&-; true",
        disk.display()
    );
    let script =
        format!("{mounts}; \"$1\" keys create search; echo \"status $?\"; cat {file}; ls {}", disk.display());
    let wrapper = ["unshare", namespace(), "--", "sh", "-c", &script, "sh"].map(str::to_owned);
    let output = keyed.program.command_under(&wrapper, &[]).output().unwrap();
    let (said, seen) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("No space left") && said.contains("the keys are as they were"), "{said}");
    assert_eq!(seen, "status 1\n# none\nfiller\nkeys.toml\nkeys.toml.lock\n", "{said}");
}

#[test]
fn folder_in_place_of_the_file_is_a_mistake() {
    let keyed = Keyed::new(up());
    fs::create_dir(keyed.file()).unwrap();
    let said = failure(&keyed.program.command(&["check"]).output().unwrap(), 2);
    assert!(said.contains("keys.toml: cannot be read: it is not a regular file"), "{said}");
}
