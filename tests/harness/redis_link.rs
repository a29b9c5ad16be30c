//! A way to a Redis server that a test leads elsewhere, or that loses replies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, unreachable_pub, reason = "this is the library of several tests")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::redis::Redis;

/// An address behind which there is a server, or none.
pub struct RedisLink {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The server's port. `None`: connections are closed at once.
    port: Option<u16>,
    /// The text of a command from which on one connection loses all replies.
    loses_from: Option<&'static str>,
    open: Vec<TcpStream>,
}

impl RedisLink {
    /// A link to no server.
    pub fn to_none() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut state = shared.lock().unwrap();
                let Some(port) = state.port else { continue };
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                state.open.extend([&client, &server].map(|end| end.try_clone().unwrap()));
                relay(client, server, &shared);
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Leads to another server, and closes the connections to the one before.
    pub fn lead_to(&self, server: &Redis) {
        let mut state = self.state.lock().unwrap();
        state.port = Some(server.port());
        for end in state.open.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Loses the reply to the next command with this text, and all later ones of its connection.
    pub fn lose_replies_from(&self, text: &'static str) {
        self.state.lock().unwrap().loses_from = Some(text);
    }

    /// Returns true if replies were lost, or no longer are to be.
    pub fn has_lost_replies(&self) -> bool {
        self.state.lock().unwrap().loses_from.is_none()
    }
}

/// Passes on what both ends send, on threads of its own.
fn relay(client: TcpStream, server: TcpStream, state: &Arc<Mutex<State>>) {
    let is_deaf = Arc::new(AtomicBool::new(false));
    let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let (state, deaf) = (Arc::clone(state), Arc::clone(&is_deaf));
    thread::spawn(move || {
        copy(client, server, |bytes| {
            let mut state = state.lock().unwrap();
            let has = |text: &&str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            if state.loses_from.as_ref().is_some_and(has) {
                state.loses_from = None;
                deaf.store(true, Ordering::SeqCst);
            }
            true
        });
    });
    thread::spawn(move || copy(from_server, to_client, |_| !is_deaf.load(Ordering::SeqCst)));
}

fn copy(mut from: TcpStream, mut to: TcpStream, passes: impl Fn(&[u8]) -> bool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if passes(&bytes[..count]) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
