//! Handshakes between a client and a server in memory, and the messages about wrong material.

mod material;
mod rotation;
mod sessions;
mod verification;

#[path = "../../tests/harness/certificates.rs"]
pub(crate) mod certificates;

use std::io;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::rotate::Recipe;
use super::*;
use crate::support::Live;
use certificates::{Authority, Pair, self_signed};

fn text(pem: &str) -> Source {
    Source::text("the test", pem).unwrap_or_else(|reason| panic!("{reason}"))
}

fn identity(pair: &Pair) -> IdentitySource {
    IdentitySource { certificate: text(&pair.certificate), private_key: text(&pair.key), passphrase: None }
}

pub(crate) fn server(pair: &Pair) -> ServerSettings {
    let client_certificates = ClientCertificates::Required;
    ServerSettings { identity: identity(pair), client_ca: Vec::new(), client_certificates }
}

pub(crate) fn client(mode: Verification, ca: &str) -> ClientSettings {
    ClientSettings { verification: mode, ca: vec![text(ca)], ..ClientSettings::default() }
}

pub(crate) fn client_config(settings: &ClientSettings) -> Arc<ClientConfig> {
    Arc::new(settings.config(&[HTTP_1_1]).unwrap_or_else(|fault| panic!("{fault}")))
}

pub(crate) fn server_config(settings: &ServerSettings) -> Arc<ServerConfig> {
    settings.make().unwrap_or_else(|fault| panic!("{fault}")).config
}

/// The certificate of a client of `ours` on its connection to a server.
pub(crate) fn client_certificate(ours: &Authority, server: &Arc<Live<ServerTls>>) -> ClientCertificate {
    let mut settings = client(Verification::None, &ours.pem());
    settings.identity = Some(identity(&ours.issue("ada", &[])));
    let (_, session) = handshake(&client_config(&settings), "llm.internal", &server.load().config).unwrap();
    ClientCertificate::of(&session, server, server.generation()).expect("the client has one")
}

/// A whole handshake, and the data after it until neither side has more to send.
fn handshake(
    client: &Arc<ClientConfig>,
    name: &str,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    loop {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut sent = &bytes[..];
        while !sent.is_empty() {
            server.read_tls(&mut sent).unwrap();
            server.process_new_packets()?;
        }
        let mut response = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut response).unwrap();
        }
        let mut received: &[u8] = &response;
        while !received.is_empty() {
            client.read_tls(&mut received as &mut dyn io::Read).unwrap();
            client.process_new_packets()?;
        }
        if bytes.is_empty() && response.is_empty() {
            return Ok((client, server));
        }
    }
}
