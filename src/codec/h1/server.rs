//! The server half: [`RequestReader`] finds and reads a request's head,
//! [`BodyDecoder`](super::BodyDecoder) removes the framing of its body, [`write_response_head`]
//! begins the response, and [`BodyEncoder`] frames its body.

mod request;
mod response;

pub use request::{BadRequest, MAX_REQUEST_HEADERS, ParsedRequest, RequestReader};
pub use response::{BodyEncoder, RequestFraming, ResponseStart, write_response_head};
