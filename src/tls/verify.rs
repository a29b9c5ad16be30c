//! Verifies the certificates of upstreams.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{Facts, HandshakeObserver};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// A trusted authority must have signed the certificate, it must be valid now, and for the
    /// expected name.
    #[default]
    Full,
    /// Like `Full`, for any name.
    Certificate,
    /// Verifies nothing, so that a machine in between can pose as the upstream.
    None,
}

impl Verification {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Certificate => "certificate",
            Self::None => "none",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Full, Self::Certificate, Self::None].into_iter().find(|mode| mode.as_str() == text)
    }
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) mode: Verification,
    pub(super) roots: Arc<RootCertStore>,
    /// Certificates that are themselves trusted. A server may present one of them as its own, even
    /// if it is marked as an authority, as those of `openssl req -x509` are, which the end of a
    /// path of RFC 5280 must not be.
    pub(super) pinned: Vec<CertificateDer<'static>>,
    pub(super) provider: Arc<CryptoProvider>,
    /// Records each certificate.
    pub(super) observer: Option<Arc<HandshakeObserver>>,
}

impl Verifier {
    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.pinned.iter().any(|pinned| pinned == certificate) {
            return check_time(certificate, now);
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(parsed, &self.roots, intermediates, now, algorithms)
    }
}

fn check_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let facts = Facts::of(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let unix = |time: Timestamp| {
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0)))
    };
    let (not_before, not_after) = (unix(facts.not_before), unix(facts.not_after));
    if now > not_after {
        Err(CertificateError::ExpiredContext { time: now, not_after }.into())
    } else if now < not_before {
        Err(CertificateError::NotValidYetContext { time: now, not_before }.into())
    } else {
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(observer) = &self.observer {
            observer.peer(certificate);
        }
        if self.mode != Verification::None {
            let parsed = ParsedCertificate::try_from(certificate)?;
            self.verify_chain(certificate, &parsed, intermediates, now)?;
            if self.mode == Verification::Full {
                verify_server_name(&parsed, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.mode == Verification::None {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.mode == Verification::None {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
