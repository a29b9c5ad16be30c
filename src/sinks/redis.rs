//! The limits, and the ids of stored state, that the replicas of a fleet share through Redis or
//! Valkey.
//!
//! A thread of its own keeps the grants of all limits: it asks the server when a limit wants more,
//! and every two seconds in any case. A request waits for it only near a limit, and never for long.
//! The arithmetic is in [`gate::limit`](crate::gate::limit); here is the conversation.
//!
//! | module | purpose |
//! |---|---|
//! | `exchange` | the thread: asks, passes on the replies, backs off |
//! | `asked` | the limits about which it asks, and the questions for which it is time |
//! | `ids` | ids of stored state, written and asked for by the same thread |
//! | `marks` | marks by whose absence an instance sees that the server has lost its ids |
//! | `servers` | the server that has a key: one, the primary that sentinels name, or a node of a cluster |
//! | `connection` | a connection within its time, through TLS |
//! | `script` | an ask as a call of the script `grant.lua`, and its reply |
//! | `trouble` | the reasons for which the server is away |

mod asked;
mod connection;
mod exchange;
mod ids;
mod marks;
mod script;
mod servers;
mod trouble;

pub use exchange::{GrantExchange, Instance, SharedState, notice};
