//! The path of a request, from outside: raw bytes in, raw bytes out, through the library on free
//! ports.
//!
//! The upstream and the client are plain sockets on threads, so that a test controls and sees every
//! byte on the wire. No test sleeps: it waits for bytes, for the end of a connection, or for a
//! record.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "the modules of a test program are for it alone")]

#[path = "../harness/mod.rs"]
mod harness;

mod access_log;
mod addresses;
mod admin;
mod admin_access;
mod admin_keys;
mod ages;
mod asking;
mod backups;
mod billing;
mod bodies;
mod browsers;
mod client_cuts;
mod client_limits;
mod clients;
mod codings;
mod connections;
mod cuts;
mod disconnects;
mod encoded;
mod endings;
mod endpoints;
mod errors;
mod estimates;
mod first_byte;
mod fleet;
mod fleet_pages;
mod forms;
mod group_conversations;
mod group_examples;
mod group_limits;
mod group_processes;
mod group_queues;
mod group_streams;
mod group_tokens;
mod group_waiting;
mod groups;
mod headers;
mod health;
mod http2;
mod http2_frames;
mod http2_tls;
mod keep_alive;
mod keys;
mod leaving;
mod ledger;
mod limit_costs;
mod limit_kinds;
mod limits;
mod lingering;
mod looks;
mod lookups;
mod member_probes;
mod members;
mod mistyped;
mod mistyped_recordings;
mod mixed;
mod model_lists;
mod models;
mod native;
mod otlp;
mod otlp_collector;
mod outcomes;
mod passing;
mod places;
mod probes;
mod providers;
mod records;
mod refusals;
mod relay;
mod reload;
mod reload_certificates;
mod reload_command;
mod reload_files;
mod reload_sinks;
mod reload_storm;
mod resend;
mod resend_versions;
mod side_by_side;
mod signals;
mod sinks;
mod slow_bodies;
mod slow_streams;
mod starts;
mod stopping;
mod stored_ids;
mod stored_keys;
mod tags;
mod times;
mod timings;
mod trusted_proxies;
mod unread;
mod ways_out;
mod websocket;
mod websocket_http2;
mod workers;
