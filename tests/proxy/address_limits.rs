//! Limits of each client address on its connections.

use crate::harness::{Client, Proxy, Upstream, proxy, sized};

fn ok() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", b"{}"))
}

/// A connection that was served.
fn served(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    assert_eq!(client.get("/v1/models").response().status(), 200);
    client
}

fn closed(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric(&format!("streamgauge_connections_closed_total{{reason=\"{reason}\"}}"))
}

#[test]
fn connection_beyond_those_of_its_address_is_closed() {
    let proxy = proxy().server("max_connections_per_address = 2").upstream(&ok()).admin().run();
    let (first, _second) = (served(&proxy), served(&proxy));
    assert!(proxy.client().rest().is_empty());
    assert_eq!(closed(&proxy, "address_connections"), 1.0);
    let mut other = Client::connect_from([127, 0, 0, 2].into(), proxy.address);
    assert_eq!(other.get("/v1/models").response().status(), 200, "another address");
    drop(first);
    // The proxy sees the close before or after the next connection.
    while proxy.metric("streamgauge_connections{server=\"proxy\"}") > 2.0 {}
    served(&proxy);
}

#[test]
fn trusted_proxies_have_no_limit_and_their_clients_have_one() {
    let lines = "max_connections_per_address = 1\ntrusted_proxies = [\"127.0.0.1\"]";
    let balanced = proxy().server(lines).upstream(&ok()).admin().run();
    let _connections = [served(&balanced), served(&balanced)];

    let lines = format!("{lines}\nproxy_protocol = true");
    let proxy = proxy().server(&lines).upstream(&ok()).admin().run();
    let from = |address: &str| {
        let mut client = proxy.client();
        client.send(format!("PROXY TCP4 {address} 192.0.2.9 5000 80\r\n"));
        client
    };
    let mut first = from("198.51.100.1");
    assert_eq!(first.get("/v1/models").response().status(), 200);
    assert!(from("198.51.100.1").rest().is_empty());
    assert_eq!(from("198.51.100.2").get("/v1/models").response().status(), 200);
    assert_eq!(closed(&proxy, "address_connections"), 1.0);
}
