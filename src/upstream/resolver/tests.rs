use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;

/// A system in which every call waits for its result; `calls` counts them.
fn held() -> (Resolver, mpsc::Sender<io::Result<Vec<SocketAddr>>>, Arc<AtomicUsize>) {
    let (results, held) = mpsc::channel();
    let (held, calls) = (Mutex::new(held), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&calls);
    let resolver = Resolver::over(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        let held: MutexGuard<'_, mpsc::Receiver<_>> = held.lock().unwrap();
        held.recv().unwrap()
    });
    (resolver, results, calls)
}

fn address(last: u8) -> Vec<SocketAddr> {
    vec![SocketAddr::from(([10, 0, 0, last], 0))]
}

fn unknown() -> io::Error {
    io::Error::other("unknown")
}

fn name(found: Option<(Instant, u8)>, failed: Option<Instant>) -> Name {
    let found = found.map(|(at, last)| (at, Addresses::from(address(last))));
    let failed = failed.map(|at| (at, LookupError::of(&unknown())));
    Name { found, failed, running: None }
}

#[tokio::test]
async fn lookups_of_one_name_share_one_call() {
    let (resolver, results, calls) = held();
    let all = async { tokio::join!(resolver.lookup("a.test", 1), resolver.lookup("a.test", 2)) };
    let release = tokio::task::spawn_blocking(move || results.send(Ok(address(1))).unwrap());
    let (one, two) = all.await;
    release.await.unwrap();
    assert_eq!(one.unwrap(), ["10.0.0.1:1".parse().unwrap()]);
    assert_eq!(two.unwrap(), ["10.0.0.1:2".parse().unwrap()]);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn lookup_that_hangs_keeps_no_other_name_waiting() {
    let (hang, hung) = mpsc::channel::<()>();
    let hung = Mutex::new(hung);
    let resolver = Resolver::over(move |host| match host {
        "silent.test" => {
            let _ = hung.lock().unwrap().recv();
            Err(unknown())
        }
        _ => Ok(address(1)),
    });
    tokio::select! {
        _ = resolver.lookup("silent.test", 1) => panic!("it hangs"),
        other = resolver.lookup("a.test", 1) => assert!(other.is_ok()),
    }
    drop(hang);
}

#[tokio::test]
async fn address_needs_no_call() {
    let (resolver, _results, calls) = held();
    for (host, expected) in [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80")] {
        assert_eq!(resolver.lookup(host, 80).await.unwrap(), [expected.parse().unwrap()]);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn failure_is_cached_for_the_name_without_another_call() {
    let (resolver, results, calls) = held();
    results.send(Err(unknown())).unwrap();
    for _ in 0..3 {
        assert_eq!(resolver.lookup("a.test", 1).await.unwrap_err().to_string(), "unknown");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn name_without_an_address_is_a_failure() {
    let resolver = Resolver::over(|_| Ok(Vec::new()));
    let error = resolver.lookup("a.test", 1).await.unwrap_err();
    assert_eq!(error.to_string(), "the name has no address");
}

#[tokio::test]
async fn slow_lookup_gives_way_to_the_last_addresses() {
    let (resolver, results, _) = held();
    let found = Instant::now().checked_sub(FRESH).unwrap();
    resolver.0.lock().insert("a.test".into(), name(Some((found, 7)), None));
    let begun = Instant::now();
    assert_eq!(resolver.lookup("a.test", 1).await.unwrap(), ["10.0.0.7:1".parse().unwrap()]);
    assert!(begun.elapsed() >= PATIENCE - Duration::from_millis(50));
    drop(results);
}

#[test]
fn addresses_are_fresh_for_a_second_and_kept_for_ten_minutes() {
    let at = Instant::now();
    let mut found = name(Some((at, 1)), None);
    assert!(found.take_cached(at + FRESH - Duration::from_millis(1)).is_some());
    assert!(found.take_cached(at + FRESH).is_none());
    assert!(found.stale(at + STALE - Duration::from_millis(1)).is_some());
    assert!(found.stale(at + STALE).is_none() && !found.is_needed(at + STALE));
}

#[test]
fn failure_is_remembered_for_a_second() {
    let at = Instant::now();
    let mut failed = name(None, Some(at));
    assert!(matches!(failed.take_cached(at), Some(Err(_))));
    assert!(failed.take_cached(at + FAILURE).is_none());
}

#[test]
fn failed_lookup_gives_way_to_the_last_addresses() {
    let (resolver, _results, _) = held();
    let at = Instant::now();
    resolver.0.lock().insert("a.test".into(), name(Some((at, 7)), None));
    let failed = at + 2 * FRESH;
    assert_eq!(resolver.0.finish("a.test", Err(unknown()), failed).unwrap().len(), 1);
    assert!(matches!(resolver.begin_or_join("a.test", failed), Lookup::Ready(Ok(_))));
    assert!(resolver.0.finish("a.test", Err(unknown()), at + STALE).is_err(), "too old");
    assert_eq!(&*resolver.0.finish("a.test", Ok(address(8)), at + STALE).unwrap(), address(8));
}

#[tokio::test]
async fn lookup_whose_thread_panics_is_repeated() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let resolver = Resolver::over(move |_| match first.swap(false, Ordering::SeqCst) {
        true => panic!("as it must not"),
        false => Ok(address(1)),
    });
    assert_eq!(resolver.lookup("a.test", 1).await.unwrap_err().to_string(), "the lookup failed");
    assert!(resolver.lookup("a.test", 1).await.is_ok());
}
