//! `[keys]`: the file of stored keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::gate::KeyDigest;

/// A configuration and its file of keys, in a directory of their own.
struct Stored {
    folder: tempfile::TempDir,
}

impl Stored {
    fn new(text: &str, keys: Option<&str>) -> Self {
        let stored = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(stored.path("streamgauge.toml"), format!("{OPENAI}{text}")).unwrap();
        if let Some(keys) = keys {
            fs::write(stored.path("keys.toml"), keys).unwrap();
        }
        stored
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sources(&self) -> Sources {
        Sources { file: Some(self.path("streamgauge.toml")), ..Sources::default() }
    }

    fn load(&self) -> Loaded {
        load(&self.sources()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    /// The lines of all mistakes, without the directory.
    fn mistakes(&self) -> Vec<String> {
        let mistakes = load(&self.sources()).expect_err("a mistake").to_string();
        let folder = format!("{}/", self.folder.path().display());
        mistakes.replace(&folder, "").lines().map(str::to_owned).collect()
    }
}

fn digest(key: &str) -> String {
    KeyDigest::of(key.as_bytes()).to_hex()
}

#[test]
fn missing_file_is_an_empty_store() {
    let stored = Stored::new("[clients.a]\n", None);
    let loaded = stored.load();
    assert_eq!(loaded.settings.keys.file(), Some(&*stored.path("keys.toml")));
    assert!(loaded.settings.keys.stored.is_empty());
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(warning.starts_with("clients.a has no key"), "{warning}");
    assert!(loaded.files.changed_keys().is_none());
    fs::write(stored.path("keys.toml"), "\n").unwrap();
    assert!(loaded.files.changed_keys().is_some());
}

#[test]
fn stored_key_has_its_client_and_its_end() {
    let text = format!(
        "[[keys]]\nclient = \"a\"\nsha256 = \"{}\"\ncreated = \"2026-11-30T09:00:00Z\"\n\
         [[keys]]\nclient = \"a\"\nsha256 = \"{}\"\nuntil = 2999-01-31T12:00:00+01:00\n",
        digest("1"),
        digest("2").to_uppercase()
    );
    let stored = Stored::new("[clients.a]\n", Some(&text));
    let loaded = stored.load();
    assert_eq!(loaded.warnings, [""; 0]);
    let keys = loaded.settings.keys.stored;
    assert_eq!(keys[0].created, "2026-11-30T09:00:00Z".parse().ok());
    assert_eq!((keys[1].digest, keys[1].created), (KeyDigest::of(b"2"), None));
    assert_eq!(keys[1].until, "2999-01-31T11:00:00Z".parse().ok());
}

#[test]
fn mistakes_in_the_file_have_their_lines() {
    let text = format!(
        "[[keys]]\nclient = \"\"\nsha256 = \"sg-marker\"\n[[keys]]\nuntil = \"tomorrow\"\nclient = 1\nsha256 = \"{}\"\n[key]\n",
        digest("1")
    );
    let stored = Stored::new("[clients.a]\nmodel = 1\n", Some(&text));
    let found = stored.mistakes();
    let expected = [
        "keys.toml:2: keys[0].client: is empty",
        "keys.toml:3: keys[0].sha256: is not a digest: write 64",
        "keys.toml:5: keys[1].until: \"tomorrow\" is not a time: write a time such as",
        "keys.toml:6: keys[1].client: must be text in quotes",
        "keys.toml:8: key: unknown key; did you mean `keys`?",
    ];
    for expected in expected {
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:#?}");
    }
    assert!(found.iter().any(|line| line.contains("clients.a.model: unknown key")), "{found:#?}");
    assert!(!found.join(" ").contains("marker"));
}

#[test]
fn key_in_two_places_names_both() {
    let one = |client: &str| format!("[[keys]]\nclient = \"{client}\"\nsha256 = \"{}\"\n", digest("test"));
    let stored = Stored::new("[clients.a]\n[clients.b]\n", Some(&(one("a") + &one("b"))));
    assert_eq!(
        stored.mistakes(),
        ["keys.toml:4: keys[1]: is the same key as keys.toml:1: keys[0]: remove one of the two"]
    );
    let own = format!("[clients.a]\nkeys = [{{ sha256 = \"{}\" }}]\n[clients.b]\n", digest("test"));
    let stored = Stored::new(&own, Some(&one("b")));
    assert_eq!(
        stored.mistakes(),
        [
            "keys.toml:1: keys[0]: is the same key as streamgauge.toml:4: clients.a.keys[0]: remove one of the two"
        ]
    );
}

#[test]
fn keys_without_any_client_are_a_mistake() {
    let key = format!("[[keys]]\nclient = \"a\"\nsha256 = \"{}\"\n", digest("test"));
    let found = Stored::new("", Some(&key)).mistakes();
    let expected =
        "keys.toml:1: keys[0]: is a key, and without any [clients.NAME] every request would be accepted";
    assert!(found[0].starts_with(expected) && found.len() == 1, "{found:#?}");
    assert!(Stored::new("[keys]\nfile = \"\"\n", Some(&key)).load().settings.keys.file().is_none());
}

#[test]
fn file_that_would_lose_keys_is_no_empty_store() {
    let key = format!("[[keys]]\nclient = \"a\"\nsha256 = \"{}\"\n", digest("test"));
    let stored = Stored::new("[clients.a]\n", Some(&key));
    let Loaded { settings, files, .. } = stored.load();
    let file = stored.path("keys.toml");
    let ways: [fn(&Path) -> io::Result<()>; 2] =
        [|path| fs::remove_file(path), |path| fs::write(path, " \n")];
    for lose in ways {
        lose(&file).unwrap();
        for mistakes in [
            load_again(&stored.sources(), &files).map(drop).unwrap_err(),
            load_keys_again(&settings, &files).map(drop).unwrap_err(),
        ] {
            assert!(mistakes.to_string().contains("keys.toml: is missing or empty"), "{mistakes}");
        }
    }
    // An empty store says that it is one.
    fs::write(&file, "# none\n").unwrap();
    let loaded = load_keys_again(&settings, &files).unwrap();
    assert!(loaded.stored.is_empty());
    fs::remove_file(&file).unwrap();
    assert!(load_keys_again(&settings, &loaded.files).unwrap().stored.is_empty(), "nothing is lost");
}

#[test]
fn commands_read_the_place_of_keys_whatever_else_is_wrong() {
    let stored = Stored::new(
        "[server]\nlisten = 7\n[clients.a]\nkey = { env = \"NO_SUCH\" }\n[clients.b]\nmodels = 5\n\
         [ledger]\nno_such_key = 1\ntime_zone = \"Europe/Berlin\"\n[keys]\nfile = \"elsewhere/keys.toml\"\n",
        None,
    );
    let place = load_key_place(&stored.sources(), no_table).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let name = place.store.as_ref().map(|store| store.name());
    assert_eq!(name, Some(stored.path("elsewhere/keys.toml").display().to_string()));
    assert_eq!(
        (place.clients.as_slice(), place.own_keys.as_slice()),
        (&["a", "b"].map(str::to_owned)[..], &["a".to_owned()][..])
    );
    assert_eq!(time_zone_name(&place.time_zone), "Europe/Berlin");
    assert!(place.check_client("b").is_ok());
    let reason = place.check_client("c").unwrap_err();
    assert!(reason.contains("add [clients.c] to it first"), "{reason}");
    let stored = Stored::new("[keys]\nfiles = \"x\"\n", None);
    let mistakes = load_key_place(&stored.sources(), no_table).unwrap_err().to_string();
    assert!(mistakes.contains("keys.files: unknown key; did you mean `file`?"), "{mistakes}");
}

fn no_table(_: &Postgres) -> Arc<dyn KeyStore> {
    panic!("the keys are in a file")
}

const DATABASE: &str = "[ledger.postgres]\nurl = { value = \"postgres://u:p@127.0.0.1/d\" }\n";

#[test]
fn keys_of_a_table_need_its_database_and_clients() {
    let text = "[clients.a]\n[keys]\nstore = \"postgres\"\n";
    // The file is not read.
    let stored = Stored::new(&format!("{text}{DATABASE}"), Some("[[keys"));
    let Loaded { settings, warnings, files, .. } = stored.load();
    assert_eq!((settings.keys.storage.clone(), warnings), (KeyStorage::Table, Vec::new()));
    assert!(!files.has_read_keys());
    let key = |client: &str| StoredKey {
        client: client.to_owned(),
        digest: KeyDigest::of(b"test"),
        created: None,
        until: None,
        cut: false,
        place: "streamgauge_keys".to_owned(),
    };
    assert_eq!(warn_of_table(&settings, &[key("a")]), [""; 0]);
    let [gone, without] = &warn_of_table(&settings, &[key("b")])[..] else { panic!("two warnings") };
    assert!(
        gone.starts_with("streamgauge_keys: the key 9f86d081 is refused: there is no [clients.b]"),
        "{gone}"
    );
    assert!(without.starts_with("clients.a has no key"), "{without}");
    assert_eq!(
        Stored::new(text, None).mistakes(),
        ["streamgauge.toml:5: keys.store: is \"postgres\", and there is no [ledger.postgres]: add it"]
    );
    let [mistake] = &Stored::new(&format!("[keys]\nstore = \"postgres\"\n{DATABASE}"), None).mistakes()[..]
    else {
        panic!("one mistake")
    };
    assert!(mistake.contains("keys.store: is \"postgres\", and without any [clients.NAME]"), "{mistake}");
    let [mistake] = &Stored::new("[keys]\nstore = \"postgre\"\n", None).mistakes()[..] else {
        panic!("one mistake")
    };
    assert!(mistake.contains("keys.store: \"postgre\" is unknown: write"), "{mistake}");
}

#[test]
fn commands_find_the_table_of_keys() {
    #[derive(Debug)]
    struct Table(String);
    impl KeyStore for Table {
        fn name(&self) -> String {
            self.0.clone()
        }
        fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
            Ok(Vec::new())
        }
        fn apply(&self, _: &mut KeyChange<'_>) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let table = |database: &Postgres| -> Arc<dyn KeyStore> { Arc::new(Table(database.instance.clone())) };
    let text = "[server]\nlisten = 7\n[clients.a]\n[keys]\nstore = \"postgres\"\n";
    let stored = Stored::new(&format!("{text}{DATABASE}instance = \"here\"\n"), None);
    let place = load_key_place(&stored.sources(), table).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(place.store.map(|store| store.name()).as_deref(), Some("here"));
    let mistakes = load_key_place(&Stored::new(text, None).sources(), table).unwrap_err().to_string();
    assert!(
        mistakes.contains("keys.store: is \"postgres\", and there is no [ledger.postgres]"),
        "{mistakes}"
    );
}
