//! The load: clients on one thread, which write the same request again and again, and look only for
//! the end of a response and the number of its events.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep, timeout};

/// The longest wait of a client.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end of a response in chunks. No event ends like this.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A part of each of the simulated service's whole responses.
const IN_RESPONSE: &[u8] = b"\"usage\"";

/// The clients' counts since the counters were last reset.
#[derive(Default)]
pub(crate) struct Seen {
    /// Whole responses.
    pub(crate) responses: Cell<u64>,
    /// Events.
    pub(crate) events: Cell<u64>,
    /// Bytes.
    pub(crate) bytes: Cell<u64>,
    /// Broken connections, and responses without success.
    pub(crate) errors: Cell<u64>,
    /// Streams whose first event has arrived.
    pub(crate) begun: Cell<u64>,
    /// Times in microseconds: an event's from its stamp, a response's from its request.
    pub(crate) latencies: RefCell<Vec<f32>>,
    /// Times in microseconds from a stream's request to its response's first byte. They are not
    /// reset, since streams begin before.
    pub(crate) first_bytes: RefCell<Vec<f32>>,
}

impl Seen {
    pub(crate) fn reset(&self) {
        self.responses.set(0);
        self.events.set(0);
        self.bytes.set(0);
        self.errors.set(0);
        self.latencies.borrow_mut().clear();
    }
}

fn add(cell: &Cell<u64>, more: u64) {
    cell.set(cell.get() + more);
}

/// Runs a future on this thread, with tasks beside it.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, future)
}

/// A request for a chat completion. `directions` are for the service, in a header: LiteLLM takes a
/// model's name with commas for several models.
pub(crate) fn request(directions: &str, stream: bool, prompt: usize, keep_alive: bool) -> Vec<u8> {
    let content = "All that a river holds is water and time. ".repeat(prompt / 42 + 1);
    let body = format!(
        r#"{{"model":"sim","stream":{stream},"messages":[{{"role":"user","content":"{}"}}]}}"#,
        &content[..prompt]
    );
    let connection = if keep_alive { "" } else { "connection: close\r\n" };
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench\r\naccept: */*\r\n\
         content-type: application/json\r\nx-simulate: {directions}\r\n{connection}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A client that sends its next request after each response, or at a pace, until it is dropped.
pub(crate) async fn ask(
    port: u16,
    request: Rc<Vec<u8>>,
    keep_alive: bool,
    pace: Option<Duration>,
    seen: Rc<Seen>,
) {
    let mut ticks = pace.map(interval);
    let mut buffer = vec![0; 64 * 1024];
    let mut kept: Option<TcpStream> = None;
    loop {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let start = Instant::now();
        let done = timeout(PATIENCE, exchange(port, &request, &mut kept, &mut buffer)).await;
        if matches!(done, Ok(Ok(()))) {
            add(&seen.responses, 1);
            seen.latencies.borrow_mut().push(start.elapsed().as_secs_f32() * 1e6);
        } else {
            add(&seen.errors, 1);
            kept = None;
        }
        if !keep_alive {
            kept = None;
        }
    }
}

/// One request on a connection of its own.
pub(crate) async fn once(port: u16, request: &[u8]) -> std::io::Result<()> {
    exchange(port, request, &mut None, &mut vec![0; 64 * 1024]).await
}

async fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(
    port: u16,
    request: &[u8],
    kept: &mut Option<TcpStream>,
    buffer: &mut [u8],
) -> std::io::Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => connect(port).await?,
    };
    stream.write_all(request).await?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if let Some(end) = memmem::find(&buffer[..filled], b"\r\n\r\n") {
            let whole = is_whole(&buffer[..filled], end + 4)?;
            if whole {
                *kept = Some(stream);
                return Ok(());
            }
        }
    }
}

/// Returns true if the response whose head ends at `body` is complete. It must be a success, and
/// the service's own.
fn is_whole(response: &[u8], body: usize) -> std::io::Result<bool> {
    if !response.starts_with(b"HTTP/1.1 200") {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let head = response[..body].to_ascii_lowercase();
    let is_whole = match memmem::find(&head, b"content-length: ") {
        Some(at) => {
            let digits = head[at + 16..].iter().take_while(|byte| byte.is_ascii_digit());
            let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
            response.len() >= body + length
        }
        None => response.ends_with(LAST_CHUNK),
    };
    if is_whole && memmem::find(&response[body..], IN_RESPONSE).is_none() {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    Ok(is_whole)
}

/// The way in which a client reads a stream.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// Reads the events' stamps.
    pub(crate) stamps: bool,
    /// Reads at most this many bytes at a time, and then pauses.
    pub(crate) slow: Option<(usize, Duration)>,
}

/// A client that reads streams, one after the other.
pub(crate) async fn stream(port: u16, request: Rc<Vec<u8>>, reading: Reading, seen: Rc<Seen>) {
    loop {
        if one_stream(port, &request, reading, &seen).await.is_err() {
            add(&seen.errors, 1);
            sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn one_stream(port: u16, request: &[u8], reading: Reading, seen: &Seen) -> std::io::Result<()> {
    let mut stream = connect(port).await?;
    let start = Instant::now();
    stream.write_all(request).await?;
    let mut buffer = vec![0; reading.slow.map_or(64 * 1024, |(most, _)| most)];
    let mut last = 0;
    let mut end = Vec::new();
    let (mut done, mut begun) = (false, false);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let data = &buffer[..read];
        if !done && !data.starts_with(b"HTTP/1.1 200") {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        if !done {
            seen.first_bytes.borrow_mut().push(start.elapsed().as_secs_f32() * 1e6);
        }
        done = true;
        let events = count_events(data, &mut last);
        if events > 0 && !begun {
            begun = true;
            add(&seen.begun, 1);
        }
        add(&seen.events, events);
        add(&seen.bytes, read as u64);
        if reading.stamps {
            note_stamps(data, seen);
        }
        end.extend_from_slice(&data[read.saturating_sub(LAST_CHUNK.len())..]);
        end.drain(..end.len().saturating_sub(LAST_CHUNK.len()));
        if end == LAST_CHUNK {
            add(&seen.responses, 1);
            return Ok(());
        }
        if let Some((_, pause)) = reading.slow {
            sleep(pause).await;
        }
    }
}

/// Counts the blank lines of events; `last` is the byte before.
fn count_events(data: &[u8], last: &mut u8) -> u64 {
    let mut events = u64::from(*last == b'\n' && data[0] == b'\n');
    events += memmem::find_iter(data, b"\n\n").count() as u64;
    *last = *data.last().unwrap();
    events
}

/// Records the age of each event by its stamp.
fn note_stamps(data: &[u8], seen: &Seen) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut latencies = seen.latencies.borrow_mut();
    for at in memmem::find_iter(data, b"\"stamp\":") {
        let digits = data[at + 8..].iter().take_while(|byte| byte.is_ascii_digit());
        let (stamp, length) = digits
            .fold((0u64, 0), |(stamp, length), digit| (stamp * 10 + u64::from(digit - b'0'), length + 1));
        // A stamp that is cut by the end of the read is ignored.
        if length == 19 {
            latencies.push(now.saturating_sub(stamp) as f32 / 1e3);
        }
    }
}
