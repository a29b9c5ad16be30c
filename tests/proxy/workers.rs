//! Long-lived streams spread evenly over the workers.

use std::collections::HashMap;
use std::sync::mpsc;

use crate::harness::{CHAT_REQUEST, EVENTS_HEAD, proxy, upstream};

#[test]
fn no_worker_has_more_than_twice_its_share_of_streams() {
    const WORKERS: usize = 4;
    const STREAMS: usize = 64;
    let (arrived, arrivals) = mpsc::channel();
    let up = upstream(move |connection| {
        connection.request();
        connection.send(EVENTS_HEAD);
        arrived.send(()).unwrap();
        connection.wait_for_close();
    });
    let proxy = proxy().server(&format!("workers = {WORKERS}")).upstream(&up).run();
    let clients: Vec<_> = (0..STREAMS)
        .map(|_| {
            let mut client = proxy.client();
            client.post("/v1/chat/completions", CHAT_REQUEST).head();
            client
        })
        .collect();
    (0..STREAMS).for_each(|_| arrivals.recv().unwrap());
    let loads = proxy.running.as_ref().unwrap().loads();
    let counts: HashMap<usize, usize> = loads.iter().copied().enumerate().collect();
    // Each stream counts twice: a connection, and a running request.
    assert_eq!(loads.iter().sum::<usize>(), 2 * STREAMS, "{counts:?}");
    assert!(loads.iter().all(|&load| load / 2 <= 2 * STREAMS / WORKERS), "{counts:?}");
    drop(clients);
}
