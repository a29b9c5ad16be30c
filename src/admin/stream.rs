//! Records as a body: read from the ledger page by page as their client takes them.
//!
//! Each page is a read of its own, from where the last one ended, so that a client that does not
//! read holds no transaction open and no more than one page in memory.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures_core::Stream;
use serde_json::{Map, Value};

use super::ask::{Format, RecordsAsk};
use super::memory::{HeldBody, Reservation};
use super::reads::{Reads, Unread};
use crate::ledger::output::csv;
use crate::ledger::{Next, Page, Record};

/// The ledger could not be read on: the answer breaks off.
#[derive(Debug)]
pub(super) struct BrokenOff(Unread);

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer broke off: {}", self.0.told().2)
    }
}

impl std::error::Error for BrokenOff {}

type Reading = Pin<Box<dyn Future<Output = Result<Page, Unread>> + Send>>;

/// The records of a request, from the latest on.
pub(super) struct RecordStream {
    reads: Reads,
    ask: RecordsAsk,
    /// How many may still come.
    left: usize,
    /// How many came.
    written: usize,
    /// The piece that is read already.
    ready: Option<Bytes>,
    /// The page behind it; `None`: there is none.
    reading: Option<Reading>,
    memory: Reservation,
}

impl RecordStream {
    /// Reads the first page, so that what is wrong with it can still be said in place of an answer.
    /// Where that is all, the body's length is known.
    pub(super) async fn open(reads: Reads, ask: RecordsAsk, memory: Reservation) -> Result<Body, Unread> {
        let first = page(reads.clone(), ask.clone(), ask.limit, None).await?;
        let left = ask.limit;
        let mut stream = Self { reads, ask, left, written: 0, ready: None, reading: None, memory };
        let piece = stream.piece(first);
        Ok(match stream.reading {
            None => Body::new(HeldBody::new(piece, stream.memory).ok_or(Unread::NoRoom)?),
            Some(_) => Body::from_stream(Self { ready: Some(piece), ..stream }),
        })
    }

    /// A page as text. The page behind it is read when the next piece is polled.
    fn piece(&mut self, page: Page) -> Bytes {
        let mut text = match (self.ask.format, self.written) {
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
                let (reads, ask) = (self.reads.clone(), self.ask.clone());
                self.reading = Some(Box::pin(self::page(reads, ask, self.left, Some(next))));
            }
            None if self.ask.format == Format::Json => {
                text.push_str(if self.written == 0 { "]\n}\n" } else { "\n  ]\n}\n" });
            }
            None => {}
        }
        text.into()
    }

    fn write(&mut self, text: &mut String, record: &Record) {
        match self.ask.format {
            Format::Csv => text.push_str(&csv::record(record)),
            Format::Json => {
                let object: Map<_, _> =
                    record.fields().map(|(name, value)| (name.to_owned(), value.clone())).collect();
                text.push_str(if self.written == 0 { "\n    " } else { ",\n    " });
                // A line break inside a text is escaped.
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

async fn page(reads: Reads, ask: RecordsAsk, limit: usize, from: Option<Next>) -> Result<Page, Unread> {
    reads.read(move |place, bounds| place.records(&ask.selection, limit, from.as_ref(), bounds)).await
}
