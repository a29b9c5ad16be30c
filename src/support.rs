//! Small mechanisms that several modules share: one backoff, one counter of running work, one
//! notice of an outage, one bounded queue, one value that is replaced while it is read, one key of
//! an upstream, one room in which requests wait, one budget of memory.
//!
//! # Order
//!
//! A module uses those of the lines below its own. `tests/layering.rs` reads this table.
//!
//! | line | modules | what they are |
//! |---|---|---|
//! | 1 | `flow`, `listen_address`, `queue`, `telemetry`, `wait_room` | metrics of streams, the bounded queue, the log, requests that wait |
//! | 2 | `backoff`, `calendar`, `cut_switch`, `hex`, `hosts`, `latch`, `live`, `local_count`, `memory`, `networks`, `no_hasher`, `outage`, `pieces`, `pulse`, `secret`, `shared_count`, `short_text`, `supervisor`, `tags`, `threads`, `upstream_id`, `wait_queue`, `whole_file` | mechanisms |
//! | 3 | `drain` | the stop of the process |

mod backoff;
pub mod calendar;
mod cut_switch;
pub mod drain;
pub mod flow;
pub mod hex;
mod hosts;
mod latch;
mod listen_address;
mod live;
mod local_count;
pub mod memory;
mod networks;
pub mod no_hasher;
mod outage;
pub mod pieces;
pub mod pulse;
mod queue;
pub mod secret;
mod shared_count;
mod short_text;
pub mod supervisor;
pub mod tags;
pub mod telemetry;
pub mod threads;
mod upstream_id;
pub mod wait_queue;
pub mod wait_room;
pub mod whole_file;

pub use backoff::Backoff;
pub use cut_switch::CutSwitch;
pub use hosts::{Hosts, Pattern, is_loopback};
pub use latch::Latch;
pub use listen_address::{ListenAddress, UNIX};
pub use live::Live;
pub use local_count::{LocalCount, LocalGuard};
pub use networks::Networks;
pub use outage::OutageNotice;
pub use queue::{Gathering, Queue, QueueStep};
pub use shared_count::{SharedCount, SharedGuard};
pub use short_text::ShortText;
pub use upstream_id::UpstreamId;
