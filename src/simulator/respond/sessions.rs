//! Sessions over a WebSocket.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::ask::Ask;
use super::super::body::SimulatorBody;
use super::super::error::Failure;
use super::super::place::{Dialect, Place};
use super::super::play::Play;
use super::super::realtime::{Realtime, pause};
use super::super::shapes::Kind;
use super::super::socket::{WebSocket, accept};
use super::super::task::Session;
use super::Exchange;
use super::request::{directions, parse};

impl Exchange {
    pub(super) fn session(
        &self,
        session: Session,
        place: &Place<'_>,
        parts: &Parts,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<SimulatorBody>, Failure> {
        let accepted = accept(&parts.headers).zip(upgrade);
        let (accepted, upgrade) =
            accepted.ok_or_else(|| Failure::invalid("Expected an upgrade to a WebSocket over HTTP/1.1."))?;
        let (shared, running) = (Arc::clone(&self.shared), Arc::clone(&self.running));
        let own = Self { shared, order: self.order.clone(), number: self.number, running };
        let headers = parts.headers.clone();
        match session {
            Session::Realtime => {
                let ask = Ask::of_model(model_in(parts.uri.query()));
                let (model, directions) = directions(&headers, place, &ask)?;
                directions.fits_in_a_reel().map_err(|message| Failure::directions(&message))?;
                let realtime = Realtime::new(self.number, model, directions, Arc::clone(&self.shared.tally));
                tokio::task::spawn_local(async move {
                    let _running = own.running;
                    let Ok(upgraded) = upgrade.await else { return };
                    // The client has seen the end, whatever it was.
                    let _ = realtime.run(WebSocket::new(TokioIo::new(upgraded))).await;
                });
            }
            Session::Responses => {
                let dialect = place.dialect;
                tokio::task::spawn_local(async move {
                    let Ok(upgraded) = upgrade.await else { return };
                    let _ = own.responses(dialect, &headers, WebSocket::new(TokioIo::new(upgraded))).await;
                });
            }
        }
        let mut response = Response::new(SimulatorBody::Whole(None));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
        Ok(response)
    }

    /// `responses` over a WebSocket: each `response.create` is a request, and its events are
    /// messages.
    async fn responses<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        dialect: Dialect,
        headers: &HeaderMap,
        mut socket: WebSocket<S>,
    ) -> io::Result<()> {
        while let Some(message) = socket.receive().await? {
            match self.turn(dialect, headers, message.as_bytes()) {
                Ok(play) => self.perform(&play, &mut socket).await?,
                Err(failure) => {
                    let mut error = failure.as_json(Dialect::OpenAi);
                    error["type"] = "error".into();
                    error["status"] = failure.status.as_u16().into();
                    socket.send(&error.to_string()).await?;
                }
            }
            // Each response has an id of its own.
            self.number = self.shared.account.number(self.shared.tally.number());
        }
        Ok(())
    }

    fn turn(&self, dialect: Dialect, headers: &HeaderMap, message: &[u8]) -> Result<Play, Failure> {
        let ask = parse(message)?;
        let place = Place { dialect, deployment: None, endpoint: "responses" };
        let (model, directions) = directions(headers, &place, &ask)?;
        directions.fits_in_a_reel().map_err(|message| Failure::directions(&message))?;
        self.play(Kind::Responses, dialect, &ask, message, &model, directions)
    }

    async fn perform<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        play: &Play,
        socket: &mut WebSocket<S>,
    ) -> io::Result<()> {
        let mut reported = None;
        for index in 0..play.events() {
            pause(play.directions(), index).await?;
            let mut event = BytesMut::new();
            if let Some(tokens) = play.write(index, None, &mut event) {
                self.shared.tally.report(reported.replace(tokens), tokens);
            }
            let event = String::from_utf8_lossy(&event);
            if let Some((_, data)) = event.split_once("data: ") {
                socket.send(data.trim_end()).await?;
            }
        }
        Ok(())
    }
}

/// The model of a session, or the deployment in Azure's dated paths.
fn model_in(query: Option<&str>) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or("").as_bytes());
    pairs.find(|(name, _)| matches!(&**name, "model" | "deployment")).map(|(_, value)| value.into_owned())
}
