//! Records as a body, read from the ledger page by page as the client reads.
//!
//! Each page is a read of its own, from the end of the previous one, so that a client that does not
//! read holds no transaction and at most one page in memory.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures_core::Stream;
use serde_json::{Map, Value};

use super::memory::{HeldBody, Reservation};
use super::query::{Format, RecordsQuery};
use super::reader::{LedgerReader, ReadError};
use crate::sinks::ledger::output::csv;
use crate::sinks::ledger::{Next, Page, Record};

/// The response ends early, because the ledger could not be read further.
#[derive(Debug)]
pub(super) struct BrokenOff(ReadError);

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the response ended early: {}", self.0.describe().2)
    }
}

impl std::error::Error for BrokenOff {}

type Reading = Pin<Box<dyn Future<Output = Result<Page, ReadError>> + Send>>;

/// The records of a request, the latest first.
pub(super) struct RecordStream {
    reader: LedgerReader,
    query: RecordsQuery,
    /// The largest number of records still to come.
    left: usize,
    /// The records so far.
    written: usize,
    /// The piece that is ready.
    ready: Option<Bytes>,
    /// The read of the next page. `None` if there is none.
    reading: Option<Reading>,
    memory: Reservation,
}

impl RecordStream {
    /// Reads the first page, so that an error can still be the response. If it is the only page,
    /// the body's length is known.
    pub(super) async fn open(
        reader: LedgerReader,
        query: RecordsQuery,
        memory: Reservation,
    ) -> Result<Body, ReadError> {
        let first = page(reader.clone(), query.clone(), query.limit, None).await?;
        let left = query.limit;
        let mut stream = Self { reader, query, left, written: 0, ready: None, reading: None, memory };
        let piece = stream.piece(first);
        Ok(match stream.reading {
            None => Body::new(HeldBody::new(piece, stream.memory).ok_or(ReadError::NoRoom)?),
            Some(_) => Body::from_stream(Self { ready: Some(piece), ..stream }),
        })
    }

    /// A page as text. The next page is read when the next piece is polled.
    fn piece(&mut self, page: Page) -> Bytes {
        let mut text = match (self.query.format, self.written) {
            (Format::Json, 0) => "{\n  \"records\": [".to_owned(),
            (Format::Csv, 0) => page.records.first().map(csv::records_header).unwrap_or_default(),
            _ => String::new(),
        };
        for record in &page.records {
            self.write(&mut text, record);
        }
        self.left = self.left.saturating_sub(page.records.len());
        match page.next.filter(|_| self.left > 0) {
            Some(next) => {
                let (reader, query) = (self.reader.clone(), self.query.clone());
                self.reading = Some(Box::pin(self::page(reader, query, self.left, Some(next))));
            }
            None if self.query.format == Format::Json => {
                text.push_str(if self.written == 0 { "]\n}\n" } else { "\n  ]\n}\n" });
            }
            None => {}
        }
        text.into()
    }

    fn write(&mut self, text: &mut String, record: &Record) {
        match self.query.format {
            Format::Csv => text.push_str(&csv::record(record)),
            Format::Json => {
                let object: Map<_, _> =
                    record.fields().map(|(name, value)| (name.to_owned(), value.clone())).collect();
                text.push_str(if self.written == 0 { "\n    " } else { ",\n    " });
                // Line breaks inside a text are escaped.
                text.push_str(&format!("{:#}", Value::Object(object)).replace('\n', "\n    "));
            }
        }
        self.written += 1;
    }
}

impl Stream for RecordStream {
    type Item = Result<Bytes, BrokenOff>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(piece) = self.ready.take() {
            return Poll::Ready(Some(Ok(piece)));
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let page = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(Some(page.map(|page| self.piece(page)).map_err(BrokenOff)))
    }
}

async fn page(
    reader: LedgerReader,
    query: RecordsQuery,
    limit: usize,
    from: Option<Next>,
) -> Result<Page, ReadError> {
    reader.read(move |place, bounds| place.records(&query.selection, limit, from.as_ref(), bounds)).await
}
