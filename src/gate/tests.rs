use super::*;

/// The second of a key's end.
const END: i64 = 1_000;

fn clients() -> Clients {
    let mut clients = Clients::default();
    for (name, key, until) in [
        ("alice", "sg-alice", None),
        ("bob", "sg-bob", None),
        ("double", "sg-alice", None),
        ("carol", "sg-carol", Some(Timestamp::from_second(END).unwrap())),
    ] {
        clients.add(KnownClient::new(name), [(KeyDigest::of(key.as_bytes()), until, None)]);
    }
    clients.add(KnownClient::new("certificate"), []);
    clients
}

fn who_at(lines: &[(&str, &str)], second: i64) -> Result<Option<String>, Unauthorized> {
    let mut headers = Headers::default();
    lines.iter().for_each(|(name, value)| headers.append(name.as_bytes(), value.as_bytes()));
    let now = Timestamp::from_second(second).unwrap();
    let known = clients().authenticate(&headers, &QueryKeys::default(), now)?;
    Ok(known.map(|known| known.client.name.to_string()))
}

fn who(lines: &[(&str, &str)]) -> Result<Option<String>, Unauthorized> {
    who_at(lines, END)
}

#[test]
fn without_clients_everybody_is_anonymous() {
    let none = Clients::default();
    assert!(none.is_empty());
    let known = none.authenticate(&Headers::default(), &QueryKeys::default(), Timestamp::UNIX_EPOCH);
    assert!(known.unwrap().is_none());
}

#[test]
fn client_with_certificate_only_has_no_key() {
    let mut clients = Clients::default();
    clients.add(KnownClient::new("certificate"), []);
    assert!(!clients.is_empty());
    assert_eq!(who(&[("api-key", "certificate")]), Err(Unauthorized::Unknown));
    assert!(clients.named("certificate").is_some() && clients.named("other").is_none());
}

#[test]
fn key_is_accepted_until_its_end() {
    let carol = ("api-key", "sg-carol");
    assert_eq!(who_at(&[carol], END - 1), Ok(Some("carol".to_owned())));
    assert_eq!(who_at(&[carol], END), Err(Unauthorized::Expired));
    assert_eq!(who_at(&[carol, ("x-api-key", "unknown")], END), Err(Unauthorized::Expired));
    assert_eq!(who_at(&[carol, ("x-api-key", "sg-bob")], END), Ok(Some("bob".to_owned())));
}

#[test]
fn two_keys_of_a_client_have_different_ids() {
    let mut clients = Clients::default();
    let digests = [KeyDigest::of(b"one"), KeyDigest::of(b"two")];
    clients.add(KnownClient::new("a"), digests.map(|digest| (digest, None, None)));
    let ids = ["one", "two"].map(|key| {
        let mut headers = Headers::default();
        headers.append(b"api-key", key.as_bytes());
        let known = clients.authenticate(&headers, &QueryKeys::default(), Timestamp::UNIX_EPOCH);
        known.unwrap().unwrap().key_id.unwrap().to_string()
    });
    assert_eq!(ids, digests.map(|digest| digest.id()));
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_key_is_read_from_where_the_sdks_put_it() {
    for line in [
        ("authorization", "Bearer sg-bob"),
        ("authorization", "bearer sg-bob"),
        ("authorization", "BEARER   sg-bob "),
        ("api-key", "sg-bob"),
        ("x-api-key", "sg-bob"),
        ("x-goog-api-key", "sg-bob"),
        ("ocp-apim-subscription-key", "sg-bob"),
    ] {
        assert_eq!(who(&[line]), Ok(Some("bob".to_owned())), "{line:?}");
    }
}

#[test]
fn any_known_key_will_do() {
    for lines in [
        [("authorization", "Bearer unknown"), ("api-key", "sg-alice")],
        [("authorization", "Basic c2ctYm9i"), ("x-api-key", "sg-alice")],
        [("authorization", "Bearer unknown"), ("authorization", "Bearer sg-alice")],
    ] {
        assert_eq!(who(&lines), Ok(Some("alice".to_owned())), "{lines:?}");
    }
}

#[test]
fn no_key_and_a_wrong_key_are_told_apart() {
    for lines in [
        &[][..],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer")],
        &[("authorization", "sg-bob")],
        &[("authorization", "Basic sg-bob")],
        &[("authorization", "Bearersg-bob")],
        &[("api-key", "")],
        &[("cookie", "sg-bob")],
    ] {
        assert_eq!(who(lines), Err(Unauthorized::Missing), "{lines:?}");
    }
    for key in ["sg-bo", "sg-bobb", "SG-BOB", "sg-bob, sg-bob"] {
        assert_eq!(who(&[("api-key", key)]), Err(Unauthorized::Unknown), "{key}");
    }
}

#[test]
fn stored_key_is_that_of_a_configured_client_until_its_end() {
    let live = Arc::new(LiveKeys::default());
    let mut clients = Clients::with_stored(Arc::clone(&live));
    clients.add(KnownClient::new("alice"), [(KeyDigest::of(b"sg-alice"), None, None)]);
    let who = |key: &str, second| {
        let mut headers = Headers::default();
        headers.append(b"api-key", key.as_bytes());
        let now = Timestamp::from_second(second).unwrap();
        let known = clients.authenticate(&headers, &QueryKeys::default(), now)?.unwrap();
        Ok((known.client.name.to_string(), known.key_id.unwrap().to_string()))
    };
    assert_eq!(who("sg-new", END), Err(Unauthorized::Unknown));
    let digest = KeyDigest::of(b"sg-new");
    let until = Timestamp::from_second(END).ok();
    let key = |digest, client, until, is_cut| LiveKey { digest, client, until, is_cut };
    let gone = key(KeyDigest::of(b"sg-gone"), "gone", None, false);
    live.replace([key(digest, "alice", until, false), gone]);
    assert_eq!(who("sg-new", END - 1), Ok(("alice".to_owned(), digest.id())));
    assert_eq!(who("sg-new", END), Err(Unauthorized::Expired));
    assert_eq!(who("sg-gone", 0), Err(Unauthorized::Unknown), "its client is not configured");
    live.replace([]);
    assert_eq!(who("sg-new", 0), Err(Unauthorized::Unknown));
    assert!(who("sg-alice", 0).is_ok());
}

#[test]
fn cut_key_is_refused_at_any_time_and_ends_its_requests() {
    let live = Arc::new(LiveKeys::default());
    let mut clients = Clients::with_stored(Arc::clone(&live));
    clients.add(KnownClient::new("alice"), []);
    let known = |key: &str| {
        let mut headers = Headers::default();
        headers.append(b"api-key", key.as_bytes());
        clients.authenticate(&headers, &QueryKeys::default(), Timestamp::UNIX_EPOCH)
    };
    let use_keys = |cuts: [bool; 2]| {
        let keys = ["one", "two"].map(|key| KeyDigest::of(key.as_bytes()));
        live.replace(keys.into_iter().zip(cuts).map(|(digest, is_cut)| LiveKey {
            digest,
            client: "alice",
            until: None,
            is_cut,
        }));
    };
    use_keys([false; 2]);
    let [one, two] = ["one", "two"].map(|key| known(key).unwrap().unwrap().cut.unwrap());
    // Another change keeps what runs.
    use_keys([false; 2]);
    assert!(!one.is_thrown());
    use_keys([true, false]);
    assert!(one.is_thrown() && !two.is_thrown());
    assert_eq!(known("one").map(drop), Err(Unauthorized::Expired));
    assert!(known("two").is_ok());
    // Accepted again.
    use_keys([false; 2]);
    let again = known("one").unwrap().unwrap().cut.unwrap();
    assert!(one.is_thrown() && !again.is_thrown());
    // Revoked, and cut afterwards.
    live.replace([]);
    assert!(!again.is_thrown());
    use_keys([true, false]);
    assert!(again.is_thrown() && !two.is_thrown());
}

#[test]
fn mistyped_key_is_told_from_an_unknown_one() {
    let unknown = new_key([7; RANDOM_BYTES]);
    let unknown = unknown.expose();
    let other = if unknown.ends_with('A') { 'B' } else { 'A' };
    let mistyped = format!("{}{other}", &unknown[..unknown.len() - 1]);
    assert_eq!(who(&[("api-key", unknown)]), Err(Unauthorized::Unknown));
    for lines in [
        &[("api-key", &*mistyped)][..],
        &[("api-key", unknown), ("x-api-key", &mistyped)],
        &[("api-key", &mistyped), ("x-api-key", "other")],
    ] {
        assert_eq!(who(lines), Err(Unauthorized::Mistyped), "{lines:?}");
    }
    assert_eq!(who(&[("api-key", &mistyped), ("x-api-key", "sg-bob")]), Ok(Some("bob".to_owned())));
    let expired = [("api-key", "sg-carol"), ("x-api-key", &mistyped)];
    assert_eq!(who_at(&expired, END), Err(Unauthorized::Expired));
}

#[test]
fn first_of_two_clients_with_one_key_has_it() {
    assert_eq!(who(&[("api-key", "sg-alice")]), Ok(Some("alice".to_owned())));
}

#[test]
fn no_key_is_shown() {
    let shown = format!("{:?}", clients());
    assert!(shown.contains("alice") && !shown.contains("sg-"), "{shown}");
}
