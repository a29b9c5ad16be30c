//! Small mechanisms that several modules need once each: one backoff, one counter of what runs, one
//! value that is replaced while it is read, one key of an upstream.

mod backoff;
mod live;
mod local_count;
mod shared_count;
mod upstream_id;

pub use backoff::Backoff;
pub use live::Live;
pub use local_count::{LocalCount, LocalGuard};
pub use shared_count::{SharedCount, SharedGuard};
pub use upstream_id::UpstreamId;
