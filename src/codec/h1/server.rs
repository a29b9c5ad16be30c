//! The server half: [`RequestReader`] finds a request's head and reads it,
//! [`BodyDecoder`](super::BodyDecoder) takes its body out of its frame, [`write_response_head`]
//! begins the response, and [`BodyEncoder`] frames its body.

mod request;
mod response;

pub use request::{BadRequest, MAX_REQUEST_HEADERS, ParsedRequest, RequestReader};
pub use response::{BodyEncoder, RequestFraming, ResponseStart, write_response_head};
