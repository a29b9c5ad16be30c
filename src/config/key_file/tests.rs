use std::os::unix::fs::{chown, symlink};

use super::*;
use crate::gate::KeyDigest;

fn key(client: &str, secret: &str) -> StoredKey {
    StoredKey {
        client: client.to_owned(),
        digest: KeyDigest::of(secret.as_bytes()),
        created: "2026-11-30T09:00:00Z".parse().ok(),
        until: None,
        cut: false,
        place: String::new(),
    }
}

fn change<T>(
    store: &dyn KeyStore,
    change: impl FnOnce(&mut Vec<StoredKey>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    store.change(change)
}

fn add(store: &KeyFile, client: &str, secret: &str) -> Result<(), StoreError> {
    change(store, |keys| {
        keys.push(key(client, secret));
        Ok(())
    })
}

fn clients(store: &KeyFile) -> Vec<String> {
    store.keys().unwrap().into_iter().map(|key| key.client).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn written_keys_are_read_again_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyFile::new(folder.path().join("keys.toml"));
    assert!(store.keys().unwrap().is_empty());
    let ends = StoredKey {
        until: "2999-01-01T00:00:00Z".parse().ok(),
        cut: true,
        ..key("b \"quoted\" \u{e9}", "2")
    };
    add(&store, "a", "1").unwrap();
    let append = |keys: &mut Vec<StoredKey>| {
        keys.push(ends.clone());
        Ok(())
    };
    change(&store, append).unwrap();
    let keys = store.keys().unwrap();
    let places: Vec<_> = keys.iter().map(|key| key.place.rsplit('/').next().unwrap()).collect();
    assert_eq!(places, ["keys.toml:3: keys[0]", "keys.toml:8: keys[1]"]);
    let plain = |key: &StoredKey| StoredKey { place: String::new(), ..key.clone() };
    assert_eq!(keys.iter().map(plain).collect::<Vec<_>>(), [key("a", "1"), ends]);
    assert_eq!(mode(store.path()), 0o600);
    // An operator's own choice stays.
    fs::set_permissions(store.path(), Permissions::from_mode(0o640)).unwrap();
    let others_group = Some(12_345);
    let may_give = chown(store.path(), None, others_group).is_ok();
    add(&store, "c", "3").unwrap();
    assert_eq!(mode(store.path()), 0o640);
    // Only root may give a file to a group that it is not in.
    assert_eq!(fs::metadata(store.path()).unwrap().gid() == 12_345, may_give);
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["keys.toml", "keys.toml.lock"]);
}

#[test]
fn dangling_symlink_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyFile::new(folder.path().join("keys.toml"));
    symlink("/nowhere/keys.toml", store.path()).unwrap();
    let message = add(&store, "a", "1").unwrap_err().to_string();
    assert!(message.ends_with(". It is a symlink to /nowhere/keys.toml, which must exist"), "{message}");
}

#[test]
fn changes_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    thread::scope(|scope| {
        for writer in 0..4 {
            let store = KeyFile::new(path.clone());
            scope.spawn(move || {
                (0..10).for_each(|number| add(&store, "a", &format!("{writer} {number}")).unwrap());
            });
        }
    });
    assert_eq!(clients(&KeyFile::new(path)).len(), 40);
}

#[test]
fn symlink_stays_and_its_target_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("real/keys.toml"), folder.path().join("keys.toml"));
    fs::create_dir(folder.path().join("real")).unwrap();
    fs::write(&target, "").unwrap();
    symlink("real/keys.toml", &link).unwrap();
    let store = KeyFile::new(link.clone());
    add(&store, "a", "1").unwrap();
    assert!(link.is_symlink() && !target.is_symlink());
    assert_eq!(clients(&KeyFile::new(target.clone())), ["a"]);
    fs::remove_file(target).unwrap();
    let error = add(&store, "b", "2").unwrap_err();
    assert!(matches!(error, StoreError::Unwritten(path, _) if path == link));
}

#[test]
fn failed_change_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyFile::new(folder.path().join("keys.toml"));
    add(&store, "a", "1").unwrap();
    let before = fs::read(store.path()).unwrap();
    let refused: Result<(), _> = change(&store, |keys| {
        keys.clear();
        Err(StoreError::Refused("not now".to_owned()))
    });
    assert_eq!(refused.unwrap_err().to_string(), "not now");
    assert_eq!(fs::read(store.path()).unwrap(), before);
    // Not even a file that is broken is overwritten.
    fs::write(store.path(), "[[keys]]\nclient = \"a\"\n").unwrap();
    let error = add(&store, "b", "2").unwrap_err().to_string();
    assert!(error.contains("keys.toml:1: keys[0].sha256: is missing"), "{error}");
    assert_eq!(fs::read(store.path()).unwrap(), b"[[keys]]\nclient = \"a\"\n");
    let gone = KeyFile::new(folder.path().join("gone/keys.toml"));
    let error = add(&gone, "a", "1").unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("gone must exist"), "{error}");
}

#[test]
fn lock_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyFile::new(folder.path().join("keys.toml"));
    let lock = take(&folder.path().join("keys.toml.lock")).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| add(&store, "a", "1"));
        // The other thread has written nothing so far.
        assert!(store.keys().unwrap().is_empty());
        drop(lock);
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(clients(&store), ["a"]);
}
