//! Requests to the admin port of a running proxy.

use std::time::{Duration, Instant};
use std::{fmt, io};

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::super::admin_client::{AdminClient, NOT_THERE, Response, is_not_there};
use super::reading::{Failed, Reading, Sums, Usage};

/// The running streams that are read, the oldest first.
const STREAMS: usize = 500;

/// The limits that are read, the fullest first.
const LIMITS: usize = 50;

/// The time after which the day's sums are read again: they may be those of millions of records.
const DAY: Duration = Duration::from_secs(10);

/// The same for those of the last minute, which may be a fleet's.
const MINUTE: Duration = Duration::from_secs(2);

/// Sums with the time of their reading.
type Kept = Option<(Instant, Usage)>;

/// The admin port, and what is not read each time.
pub(super) struct Source {
    client: AdminClient,
    /// The line with the token; empty without one.
    header: String,
    minute: Kept,
    today: Kept,
}

impl Source {
    pub(super) fn new(client: AdminClient, token: Option<&str>) -> Self {
        let header = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        Self { client, header, minute: None, today: None }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Fails if the port cannot be reached, or refuses. A ledger that cannot be read is a part of
    /// the reading.
    pub(super) fn read(&mut self) -> Result<Reading, Failure> {
        let running = self.get(&format!("/running?limit={STREAMS}"))?;
        let taken = Instant::now();
        let groups = self.get("/members")?;
        let limits = self.get(&format!("/limits?limit={LIMITS}"))?;
        let status = self.get("/config/status")?;
        let sums = self.sums();
        Ok(Reading { at: Timestamp::now(), taken, running, groups, limits, status, sums })
    }

    /// The sums of the last minute and of the day, or why there are none.
    fn sums(&mut self) -> Result<Sums, String> {
        let minute = self.usage(&self.minute, MINUTE, "1m").map_err(|failure| failure.to_string())?;
        let today = self.usage(&self.today, DAY, "today").map_err(|failure| failure.to_string())?;
        let sums = Sums { minute: minute.1.clone(), today: today.1.clone() };
        (self.minute, self.today) = (Some(minute), Some(today));
        Ok(sums)
    }

    /// The sums since this time; the known ones up to their age.
    fn usage(&self, known: &Kept, age: Duration, since: &str) -> Result<(Instant, Usage), Failure> {
        match known.as_ref().filter(|(at, _)| at.elapsed() < age) {
            Some(known) => Ok(known.clone()),
            None => Ok((Instant::now(), self.get(&format!("/usage?since={since}"))?)),
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        match self.client.send("GET", path, &self.header) {
            Ok(Response { status: 200, body }) => serde_json::from_str(&body).map_err(|_| Failure::Strange),
            Ok(Response { status, body }) => Err(Failure::Status(status, message(&body))),
            Err(error) => Err(Failure::Away(error)),
        }
    }
}

/// The message of an error's body.
fn message(body: &str) -> String {
    let failed = serde_json::from_str::<Failed>(body);
    failed.map_or_else(|_| body.trim_end().to_owned(), |failed| failed.error.message)
}

/// The reason for which there is no reading.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, or no response.
    Away(io::Error),
    /// Another status than 200, with its message.
    Status(u16, String),
    /// A response of another version, or of another program.
    Strange,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                f.write_str("no response in time")
            }
            Self::Away(error) => error.fmt(f),
            Self::Status(status, message) => write!(f, "status {status}: {message}"),
            Self::Strange => {
                f.write_str("the response is that of another version of streamgauge, or of another program")
            }
        }
    }
}

impl Failure {
    /// A remedy. `is_named`: `--address` named the port.
    pub(super) fn hint(&self, is_named: bool, has_token: bool) -> Option<&'static str> {
        match self {
            Self::Away(error) if is_not_there(error) && !is_named => Some(NOT_THERE),
            Self::Status(401, _) if has_token => Some(
                "the token is the configuration's admin.read_token, else admin.token; if it has changed, the process \
                 knows the earlier one until it reads its configuration again",
            ),
            Self::Status(401, _) => Some(
                "there is no token: name the proxy's configuration with --config, or put a token into \
                 STREAMGAUGE_ADMIN__READ_TOKEN__VALUE",
            ),
            Self::Status(404, _) => Some("the process may be of an older version, which top cannot read"),
            _ => None,
        }
    }
}
