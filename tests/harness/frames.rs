//! An HTTP/2 upstream or client that works frame by frame, for behaviour that no library's server
//! has (RFC 9113 section 4.1).

use super::Connection;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

/// SETTINGS_INITIAL_WINDOW_SIZE.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Marks a frame that ends its stream.
pub const FINAL: bool = true;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it arrived.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection on which HTTP/2 has begun.
pub struct Frames<'a>(pub &'a mut Connection);

impl<'a> Frames<'a> {
    /// Reads the preface and sends SETTINGS, which may be empty.
    pub fn begin(connection: &'a mut Connection, settings: &[(u16, u32)]) -> Self {
        assert_eq!(connection.try_read(PREFACE.len()).as_deref(), Some(PREFACE), "a preface");
        Self::with_settings(connection, settings)
    }

    /// A client's side: sends the preface and SETTINGS.
    pub fn ask(connection: &'a mut Connection, settings: &[(u16, u32)]) -> Self {
        connection.send(PREFACE);
        Self::with_settings(connection, settings)
    }

    fn with_settings(connection: &'a mut Connection, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self(connection);
        let settings =
            settings.iter().map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        frames.send(SETTINGS, 0, 0, &settings.collect::<Vec<_>>().concat());
        frames
    }

    /// The head of a request with a JSON body. Literals that touch no table, except the
    /// pseudo-headers of the static one.
    pub fn post_head(&mut self, stream: u32, path: &str) {
        let literal = |block: &mut Vec<u8>, name: &[u8], value: &str| {
            block.extend_from_slice(name);
            block.push(u8::try_from(value.len()).unwrap());
            block.extend_from_slice(value.as_bytes());
        };
        let mut block = vec![0x83, 0x86];
        literal(&mut block, &[0x04], path);
        literal(&mut block, &[0x01], "localhost");
        literal(&mut block, &[0x0f, 0x10], "application/json");
        self.send(HEADERS, END_HEADERS, stream, &block);
    }

    /// A whole request with a JSON body.
    pub fn post(&mut self, stream: u32, path: &str, body: &str) {
        self.post_head(stream, path);
        self.data(stream, body.as_bytes(), FINAL);
    }

    /// Opens the window by this many bytes; stream 0 is the connection.
    pub fn open_window(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    /// Waits for a frame of this type on a stream.
    pub fn wait_on(&mut self, kind: u8, stream: u32) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if (frame.kind, frame.stream) == (kind, stream) {
                return Some(frame);
            }
        }
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.send([&head, payload].concat());
    }

    /// The next frame. `None` at the end of the connection. Responds to SETTINGS and PING.
    pub fn next(&mut self) -> Option<Frame> {
        let head = self.0.try_read(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream, payload: self.0.try_read(length)? };
        if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
            let payload = if frame.kind == PING { &frame.payload[..] } else { b"" };
            self.send(frame.kind, ACK, 0, payload);
        }
        Some(frame)
    }

    /// Waits for a frame of this type.
    pub fn wait_for(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Reads up to the end of the next request, which must come whole. Returns its stream.
    pub fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next()?;
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }

    /// `:status: 200` and a content type, as literals that touch no table (RFC 7541 section 6.2.2).
    pub fn head(&mut self, stream: u32, content_type: &str) {
        let mut block = vec![0x88, 0x0f, 0x10, u8::try_from(content_type.len()).unwrap()];
        block.extend_from_slice(content_type.as_bytes());
        self.send(HEADERS, END_HEADERS, stream, &block);
    }

    pub fn data(&mut self, stream: u32, data: &[u8], last: bool) {
        self.send(DATA, u8::from(last) * END_STREAM, stream, data);
    }

    pub fn reset(&mut self, stream: u32, reason: u32) {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes());
    }

    pub fn go_away(&mut self, last: u32, reason: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat());
    }
}
