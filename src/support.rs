//! Small mechanisms that several modules need once each: one backoff, one counter of what runs.

mod backoff;
mod local_count;
mod shared_count;

pub use backoff::Backoff;
pub use local_count::{LocalCount, LocalGuard};
pub use shared_count::{SharedCount, SharedGuard};
