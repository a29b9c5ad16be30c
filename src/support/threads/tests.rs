use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn thread_that_panics_is_called_again_and_goes_on() {
    let threads = Threads::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let thread = threads.spawn("a", move || {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        assert!(call >= RESTARTS, "call {call}");
        Ok(())
    });
    assert!(thread.unwrap().wait(&Deadline::after(SOON)));
    assert_eq!(calls.load(Ordering::Relaxed), RESTARTS + 1);
    let [status] = &threads.statuses()[..] else { panic!("one thread") };
    assert_eq!((status.failures, status.fatal.as_deref()), (3, None));
    assert_eq!(threads.stop().phase(), Phase::Running);
}

#[test]
fn thread_beyond_its_restarts_drains_the_process() {
    let threads = Threads::default();
    let thread = threads.spawn("a", || panic!("as it must not"));
    assert!(thread.unwrap().wait(&Deadline::after(SOON)));
    assert_eq!(threads.fatal(), Some(("a".to_owned(), "it panicked: as it must not".to_owned())));
    assert_eq!(threads.statuses()[0].failures, RESTARTS as u64 + 1);
    assert_eq!(threads.stop().phase(), Phase::Draining);
}

#[test]
fn thread_that_returns_untold_drains_the_process() {
    let threads = Threads::default();
    assert!(threads.spawn_once("a", || Ok(())).unwrap().wait(&Deadline::after(SOON)));
    assert_eq!(threads.fatal().unwrap().0, "a");
    let told = Threads::default();
    told.stop().drain();
    assert!(told.spawn_once("a", || Ok(())).unwrap().wait(&Deadline::after(SOON)));
    assert_eq!(told.fatal(), None);
}

#[test]
fn thread_takes_a_name_that_no_running_thread_has() {
    let threads = Threads::default();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let waits = move || {
        let _ = ended.recv();
        Ok(())
    };
    let first = threads.spawn("a", waits).unwrap();
    let second = threads.spawn("a", || Ok(())).unwrap();
    assert_eq!((first.name(), second.name()), ("a".to_owned(), "a-2".to_owned()));
    drop(end);
    assert!(first.wait(&Deadline::after(SOON)));
    assert_eq!(threads.spawn("a", || Ok(())).unwrap().name(), "a");
    assert_eq!(threads.statuses().len(), 2);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn wait_for_a_stuck_thread_ends_soon_after_a_cut() {
    let threads = Threads::default();
    let (_held, stuck) = std::sync::mpsc::channel::<()>();
    let thread = threads.spawn("a", move || {
        let _ = stuck.recv();
        Ok(())
    });
    let thread = thread.unwrap();
    assert!(!thread.wait(&Deadline::after(Duration::from_millis(10))));
    threads.stop().cut();
    let start = Instant::now();
    assert!(!thread.wait(&Deadline::after(SOON).until_cut(threads.stop())));
    assert!(start.elapsed() < SOON / 2);
    assert!(thread.is_running());
}

#[test]
fn background_thread_is_nicer_than_others() {
    let nice = || rustix::process::getpriority_process(None).unwrap();
    let before = nice();
    let background = thread::spawn(move || {
        enter_background();
        nice()
    });
    assert_eq!(background.join().unwrap(), BACKGROUND.max(before));
    assert_eq!(nice(), before, "only that thread's has changed");
}
