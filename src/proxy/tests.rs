use super::*;
use crate::upstream::UpstreamClient;

/// The size of what `f` returns, in bytes.
fn size_of_returned<A, B, C, R>(_: impl FnOnce(A, B, C) -> R) -> usize {
    size_of::<R>()
}

/// One such future lives for each request, and HTTP/2 boxes it: a step that is rare is boxed, so
/// that it adds nothing here. Of it, most is the future that sends.
#[test]
fn future_of_a_request_stays_small() {
    let size = size_of_returned(<Proxy as Handler>::handle);
    let sending =
        size_of_returned(|upstream: &'static UpstreamClient, request, _: ()| upstream.send(request));
    assert!(size <= 2440, "{size} bytes, {sending} of them to send");
}
