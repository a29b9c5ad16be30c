use super::*;
use crate::proxy::meter::{DecodedBody, Metered};
use crate::server;
use crate::upstream::{UpstreamBody, UpstreamClient};

/// The size of the return value of `f`, in bytes.
fn size_of_returned<A, B, C, R>(_: impl FnOnce(A, B, C) -> R) -> usize {
    size_of::<R>()
}

/// One such future lives for each request, and HTTP/2 boxes it: rare steps are boxed, so that they
/// add nothing here. Most of it is the future that sends.
#[test]
fn future_of_a_request_stays_small() {
    let size = size_of_returned(<Proxy as Handler>::handle);
    let sending =
        size_of_returned(|upstream: &'static UpstreamClient, request, _: ()| upstream.send(request));
    assert!(size <= 2440, "{size} bytes, {sending} of them to send");
}

/// Thousands of streams wait at the same time, each in one such task: the parts for HTTP/2, TLS and
/// the end of a connection are boxed.
#[test]
fn task_of_a_connection_stays_small() {
    let size = server::connection_task_size::<Proxy>();
    assert!(size <= 536, "{size} bytes");
}

/// A body is moved several times before the connection polls it, and is then part of the
/// connection's task: large parts are boxed.
#[test]
fn body_of_a_streamed_response_stays_small() {
    let sizes =
        [size_of::<ProxyBody>(), size_of::<Metered<DecodedBody<UpstreamBody>>>(), size_of::<UpstreamBody>()];
    let most = [56, 56, 56];
    assert!(sizes.iter().zip(most).all(|(size, most)| *size <= most), "{sizes:?} bytes");
}

/// Each stage moves its values into the next.
#[test]
fn values_of_the_stages_stay_small() {
    let sizes = [
        size_of::<Entry>(),
        size_of::<Received>(),
        size_of::<Buffered>(),
        size_of::<Prepared>(),
        size_of::<Accepted>(),
        size_of::<PendingResponse>(),
    ];
    let most = [8, 88, 224, 192, 176, 56];
    assert!(sizes.iter().zip(most).all(|(size, most)| *size <= most), "{sizes:?} bytes");
}
