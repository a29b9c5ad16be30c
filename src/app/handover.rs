//! The channel between a process and the new version that takes its place.
//!
//! The earlier process passes its listening sockets over a socket that is the new one's standard
//! input. Both then accept from the same queues of the kernel, so that no client is refused.
//!
//! | from | message | meaning |
//! |---|---|---|
//! | earlier | `streamgauge 1` | the version of these messages |
//! | earlier | `proxy ADDRESS`, `admin ADDRESS`, with sockets | `ADDRESS` is the configured one; `-`: a supervisor opened them |
//! | earlier | `end` | no more sockets |
//! | new | `ready` | everything is opened |
//! | earlier | `go` | accept connections |
//! | new | `serving` | connections are accepted: the earlier process may drain |

use std::env;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_domain, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use rustix::stdio::dup2_stdin;
use socket2::Socket;

use super::passed::{Passed, PassedSockets};
use crate::support::Latch;

/// The variable by which a process knows that its standard input is such a channel. Its value is
/// the id of the earlier process.
pub const TAKES_OVER: &str = "STREAMGAUGE_TAKES_OVER";

const VERSION: &str = "streamgauge 1";
const END: &str = "end";
pub const READY: &str = "ready";
pub const GO: &str = "go";
pub const SERVING: &str = "serving";

/// The place of an address in a message if a supervisor opened the socket.
const SUPERVISOR: &str = "-";

/// The largest number of sockets of one message. Linux allows 253.
const SOCKETS: usize = 64;

/// The longest message in bytes.
const LENGTH: usize = 256;

/// One end of the channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends: this process's, and the standard input of the new one.
    ///
    /// # Errors
    /// Fails if the process has no descriptor left.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// Sends copies of the sockets.
    ///
    /// # Errors
    /// Fails if the other process has ended.
    pub fn send_sockets(&self, own: &PassedSockets) -> io::Result<()> {
        self.send(VERSION)?;
        for (name, Passed { configured, sockets }) in [("proxy", &own.proxy), ("admin", &own.admin)] {
            let address = configured.as_ref().map_or(SUPERVISOR.to_owned(), ToString::to_string);
            for sockets in sockets.chunks(SOCKETS) {
                let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                self.send_with(&format!("{name} {address}"), &sockets)?;
            }
        }
        self.send(END)
    }

    /// # Errors
    /// Fails if the other process has ended.
    pub fn send(&self, message: &str) -> io::Result<()> {
        self.send_with(message, &[])
    }

    fn send_with(&self, message: &str, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for this message of the other process. `patience`: the longest wait.
    ///
    /// # Errors
    /// Fails if the other process has ended, sends another message, or with
    /// [`io::ErrorKind::WouldBlock`] if the time is over.
    pub fn expect(&self, message: &str, patience: Option<Duration>) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, patience)?;
        let (found, _) = self.receive()?;
        if found != message {
            return Err(io::Error::other(format!("it said {found:?} and not {message:?}")));
        }
        Ok(())
    }

    fn receive(&self) -> io::Result<(String, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; LENGTH];
        let received = loop {
            let into = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received?,
            }
        };
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                sockets.extend(passed);
            }
        }
        match &bytes[..received.bytes] {
            [] => Err(io::ErrorKind::UnexpectedEof.into()),
            text => Ok((String::from_utf8_lossy(text).into_owned(), sockets)),
        }
    }
}

/// The beginning of a process that takes the place of another one.
#[derive(Clone, Debug)]
pub struct TakeOver {
    /// The id of the earlier process.
    pub from: u32,
    /// Opened when this process serves, and the earlier one only finishes its requests.
    pub done: Latch,
}

/// The process whose place this one takes.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    id: u32,
    done: Latch,
}

impl Predecessor {
    /// The earlier process, and the sockets that it passes. `None` if there is none. Afterwards the
    /// standard input is empty.
    ///
    /// # Errors
    /// Fails if the earlier process has ended before it passed all sockets, or is of a version that
    /// passes them in another way.
    pub fn from_environment() -> Result<Option<(Self, PassedSockets)>, String> {
        let Some(id) = env::var(TAKES_OVER).ok().and_then(|id| id.parse().ok()) else { return Ok(None) };
        let input = io::stdin();
        let is_channel = socket_domain(&input).is_ok_and(|domain| domain == AddressFamily::UNIX)
            && socket_type(&input).is_ok_and(|kind| kind == SocketType::SEQPACKET);
        if !is_channel {
            // The variable is an earlier process's own.
            return Ok(None);
        }
        let take = || -> io::Result<_> {
            let channel = Channel(input.as_fd().try_clone_to_owned()?);
            dup2_stdin(File::open("/dev/null")?)?;
            channel.expect(VERSION, None)?;
            let mut own = PassedSockets::default();
            loop {
                let (message, sockets) = channel.receive()?;
                let (name, address) = message.split_once(' ').unwrap_or((&message, SUPERVISOR));
                let named = match name {
                    END => return Ok((Self { channel, id, done: Latch::default() }, own)),
                    "proxy" => &mut own.proxy,
                    "admin" => &mut own.admin,
                    _ => return Err(io::Error::other(format!("it said {message:?}"))),
                };
                named.configured = match address {
                    SUPERVISOR => None,
                    address => Some(address.parse().map_err(io::Error::other::<String>)?),
                };
                named.sockets.extend(sockets.into_iter().map(Socket::from));
            }
        };
        take().map(Some).map_err(|error| format!("the process {id} cannot be replaced: {error}"))
    }

    pub fn take_over(&self) -> TakeOver {
        TakeOver { from: self.id, done: self.done.clone() }
    }

    /// Tells that everything is opened, and waits until connections may be accepted.
    pub fn wait_to_go(&self) {
        if self.channel.send(READY).and_then(|()| self.channel.expect(GO, None)).is_err() {
            tracing::warn!(
                "the process {} has ended before it handed over: this one serves at once",
                self.id
            );
        }
    }

    /// Returns true if the earlier process has closed its end of the channel: it knows that this one
    /// serves, or has ended.
    pub fn has_handed_over(&self) -> bool {
        let mut byte = [0];
        match recv(&self.channel.0, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, received)) => received == 0,
            Err(error) => error != rustix::io::Errno::AGAIN,
        }
    }

    /// Tells that connections are accepted.
    pub fn serve(&self) {
        // Without an earlier process there is no one to wait for it.
        let _ = self.channel.send(SERVING);
        self.done.open();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_pass_through_the_channel_and_still_listen() {
        let listeners: Vec<_> =
            (0..SOCKETS + 1).map(|_| Socket::from(TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let own = PassedSockets {
            proxy: Passed::copy(Some("127.0.0.1:0".parse().unwrap()), &listeners).unwrap(),
            admin: Passed::copy(None, &listeners[..1]).unwrap(),
        };
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel(theirs);
        ours.send_sockets(&own).unwrap();
        drop(listeners);
        theirs.expect(VERSION, None).unwrap();
        let messages: Vec<_> = (0..4).map(|_| theirs.receive().unwrap()).collect();
        let shown: Vec<_> = messages.iter().map(|(text, sockets)| (text.as_str(), sockets.len())).collect();
        assert_eq!(
            shown,
            [("proxy 127.0.0.1:0", SOCKETS), ("proxy 127.0.0.1:0", 1), ("admin -", 1), (END, 0)]
        );
        drop(own);
        let [(_, first), ..] = &messages[..] else { panic!() };
        let listener = TcpListener::from(first[3].try_clone().unwrap());
        TcpStream::connect(listener.local_addr().unwrap()).expect("the socket listens");
    }

    #[test]
    fn earlier_process_hands_over_when_it_closes_its_end() {
        let (ours, theirs) = Channel::pair().unwrap();
        let predecessor = Predecessor { channel: Channel(theirs), id: 7, done: Latch::default() };
        predecessor.serve();
        assert!(!predecessor.has_handed_over());
        ours.expect(SERVING, None).unwrap();
        assert!(!predecessor.has_handed_over(), "it may still go on by itself");
        drop(ours);
        assert!(predecessor.has_handed_over());
    }

    #[test]
    fn end_of_the_other_process_and_the_end_of_the_time_differ() {
        let (ours, theirs) = Channel::pair().unwrap();
        let late = ours.expect(READY, Some(Duration::from_millis(10))).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        let ended = ours.expect(READY, Some(Duration::from_secs(20))).unwrap_err();
        assert!(matches!(ended.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset));
    }
}
