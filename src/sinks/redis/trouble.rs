//! The reasons for which the server is away.

use std::fmt;
use std::io;
use std::time::Duration;

use redis::{ErrorKind, RedisError};

use crate::tls::Fault;

/// The reason for which the server is away.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No response came within this time.
    Silence(Duration),
    /// No connection, or a broken one.
    Connection(io::Error),
    Tls(Fault),
    /// The sentinels know no primary.
    NoPrimary(String),
    /// The server is no primary, and so takes no writes.
    NotPrimary,
    /// The nodes of a cluster point at each other.
    Astray,
    Server(RedisError),
}

impl Trouble {
    /// Its kind: another one is logged again.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Silence(_) => "silence".to_owned(),
            Self::Connection(error) => error.kind().to_string(),
            Self::Tls(_) => "tls".to_owned(),
            Self::NoPrimary(_) => "sentinel".to_owned(),
            Self::NotPrimary => "replica".to_owned(),
            Self::Astray => "cluster".to_owned(),
            Self::Server(error) => error.code().unwrap_or_else(|| error.category()).to_owned(),
        }
    }

    /// Returns true if an attempt costs time, since nothing refuses it.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Silence(_))
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::IoError => Self::Connection(io::Error::other(error)),
            ErrorKind::ReadOnly => Self::NotPrimary,
            _ => Self::Server(error),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(time) => write!(f, "it did not respond within {time:?}"),
            Self::Connection(error) => write!(f, "{error}"),
            Self::Tls(fault) => write!(f, "[redis.tls] {fault}"),
            Self::NoPrimary(service) => write!(f, "no sentinel knows a primary of {service}"),
            Self::NotPrimary => f.write_str("it is a replica, which takes no writes (READONLY)"),
            Self::Astray => f.write_str("the nodes of the cluster point at each other"),
            Self::Server(error) => write!(f, "{error}"),
        }
    }
}
