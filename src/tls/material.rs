//! Reads certificates and keys, and checks that they are complete and belong together.

use std::sync::Arc;

use pkcs8::EncryptedPrivateKeyInfo;
use rustls::RootCertStore;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::sign::CertifiedKey;

use super::pem::{self, Block};
use super::{Facts, Fault, Source, TlsPart, provider};
use crate::support::secret::Secret;

/// The places of a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySource {
    /// Followed by those of its issuers.
    pub certificate: Source,
    pub private_key: Source,
    pub passphrase: Option<Secret>,
}

/// A certificate with its chain and the matching key.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    /// `None` if the certificate cannot be parsed.
    pub facts: Option<Facts>,
    /// A passphrase was given for a key that is not encrypted.
    pub passphrase_unused: bool,
}

impl Identity {
    /// # Errors
    /// Fails if a part cannot be read or used, or if certificate and key do not match.
    pub fn read(source: &IdentitySource) -> Result<Self, Fault> {
        let chain = read_blocks(&source.certificate, TlsPart::Certificate).and_then(|blocks| {
            certificates(blocks, &source.certificate)
                .map_err(|reason| Fault::new(TlsPart::Certificate, reason))
        });
        let keys = read_blocks(&source.private_key, TlsPart::PrivateKey);
        let (chain, keys) = (chain?, keys?);
        let (key, encrypted) = private_key(keys, source)?;
        let signer = provider().key_provider.load_private_key(key).map_err(|_| {
            let reason = format!("{} holds a key that is damaged, or of a kind that TLS does not use: it takes RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, and Ed25519", source.private_key);
            Fault::new(TlsPart::PrivateKey, reason)
        })?;
        let certified = CertifiedKey::new(chain, signer);
        check_match(&certified, source)?;
        let facts = certified.cert.first().and_then(Facts::of);
        let passphrase_unused = source.passphrase.is_some() && !encrypted;
        Ok(Self { key: Arc::new(certified), facts, passphrase_unused })
    }
}

/// Certificates of authorities.
#[derive(Clone, Debug)]
pub struct Authorities {
    pub(super) roots: RootCertStore,
    /// The certificates as in the files: a server may present one of them as its own.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// # Errors
    /// Fails if a bundle cannot be read, has no certificate, or has one that cannot be used.
    pub fn read(sources: &[Source]) -> Result<Self, Fault> {
        let fault = |reason| Fault::new(TlsPart::Ca, reason);
        let mut found = Self { roots: RootCertStore::empty(), certificates: Vec::new() };
        for source in sources {
            let blocks = read_blocks(source, TlsPart::Ca)?;
            for (number, certificate) in certificates(blocks, source).map_err(fault)?.into_iter().enumerate()
            {
                found.roots.add(certificate.clone()).map_err(|error| {
                    fault(format!("{}: certificate {} cannot be used: {error}", source, number + 1))
                })?;
                found.certificates.push(certificate);
            }
        }
        Ok(found)
    }
}

fn read_blocks(source: &Source, part: TlsPart) -> Result<Vec<Block>, Fault> {
    let text = source.read().map_err(|reason| Fault::new(part, reason))?;
    let blocks =
        pem::blocks(text.expose()).map_err(|reason| Fault::new(part, format!("{source}: {reason}")))?;
    if blocks.is_empty() {
        let wanted = if part == TlsPart::PrivateKey { "PRIVATE KEY" } else { "CERTIFICATE" };
        let reason = format!("{source} is not PEM: a line -----BEGIN {wanted}----- is missing");
        return Err(Fault::new(part, reason));
    }
    Ok(blocks)
}

/// All certificates of a bundle. Skips keys and parameters, since one file often has both.
fn certificates(blocks: Vec<Block>, source: &Source) -> Result<Vec<CertificateDer<'static>>, String> {
    let labels = labels(&blocks);
    let is_certificate = |block: &Block| matches!(block.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE");
    let found: Vec<_> =
        blocks.into_iter().filter(is_certificate).map(|block| CertificateDer::from(block.der)).collect();
    if found.is_empty() { Err(format!("{source} has no certificate: it holds {labels}")) } else { Ok(found) }
}

/// The only key among the blocks, and whether it was encrypted.
fn private_key(blocks: Vec<Block>, source: &IdentitySource) -> Result<(PrivateKeyDer<'static>, bool), Fault> {
    let name = &source.private_key;
    let fault = |reason: String| Fault::new(TlsPart::PrivateKey, reason);
    let labels = labels(&blocks);
    let mut keys = blocks.into_iter().filter(|block| block.label.ends_with("PRIVATE KEY"));
    let Some(block) = keys.next() else {
        return Err(fault(format!("{name} has no private key: it holds {labels}")));
    };
    if keys.next().is_some() {
        return Err(fault(format!("{name} has more than one private key: leave the certificate's own")));
    }
    if block.old_encryption {
        return Err(fault(format!(
            "{name} is encrypted in OpenSSL's old format, which is not supported: convert it with openssl pkcs8 -topk8"
        )));
    }
    let der = block.der;
    match block.label.as_str() {
        "PRIVATE KEY" => Ok((PrivatePkcs8KeyDer::from(der).into(), false)),
        "RSA PRIVATE KEY" => Ok((PrivatePkcs1KeyDer::from(der).into(), false)),
        "EC PRIVATE KEY" => Ok((PrivateSec1KeyDer::from(der).into(), false)),
        "ENCRYPTED PRIVATE KEY" => decrypt(&der, source).map(|key| (key, true)),
        label => Err(fault(format!("{name} has a key of a kind that TLS does not use: {label}"))),
    }
}

/// Decrypts PKCS#8 (RFC 5958 section 3, RFC 8018).
fn decrypt(der: &[u8], source: &IdentitySource) -> Result<PrivateKeyDer<'static>, Fault> {
    let name = &source.private_key;
    let Some(passphrase) = &source.passphrase else {
        let reason = format!(
            "is missing: the private key in {name} is encrypted; write passphrase = {{ env = \"NAME\" }} or {{ file = \"PATH\" }}"
        );
        return Err(Fault::new(TlsPart::Passphrase, reason));
    };
    let encrypted = EncryptedPrivateKeyInfo::try_from(der).map_err(|_| {
        Fault::new(
            TlsPart::PrivateKey,
            format!(
                "{name} is encrypted in a way that is not supported: use openssl pkcs8 -topk8 -v2 aes-256-cbc"
            ),
        )
    })?;
    let key = encrypted.decrypt(passphrase.expose()).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }) => Fault::new(
            TlsPart::PrivateKey,
            format!(
                "{name} is encrypted in a way that is not supported: use openssl pkcs8 -topk8 -v2 aes-256-cbc"
            ),
        ),
        _ => Fault::new(TlsPart::Passphrase, format!("does not open the private key in {name}")),
    })?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

/// Checks that the key matches the first certificate of the bundle.
fn check_match(certified: &CertifiedKey, source: &IdentitySource) -> Result<(), Fault> {
    let of = |certificate: &CertificateDer<'_>| {
        Facts::of(certificate)
            .map_or_else(|| "an unreadable subject".to_owned(), |facts| facts.who().to_owned())
    };
    let belongs = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key)).keys_match()
    };
    let first =
        certified.cert.first().ok_or_else(|| Fault::new(TlsPart::Certificate, "has no certificate"))?;
    match belongs(first) {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let other = certified.cert.iter().position(|certificate| belongs(certificate).is_ok());
            Err(match other {
                Some(place) => Fault::new(
                    TlsPart::Certificate,
                    format!(
                        "{}: certificate {} belongs to the private key, and must come first",
                        source.certificate,
                        place + 1
                    ),
                ),
                None => Fault::new(
                    TlsPart::PrivateKey,
                    format!(
                        "{} does not belong to the certificate of {} in {}",
                        source.private_key,
                        of(first),
                        source.certificate
                    ),
                ),
            })
        }
        Err(error) => Err(Fault::new(
            TlsPart::Certificate,
            format!("{}: certificate 1 cannot be used: {error}", source.certificate),
        )),
    }
}

/// The kinds of the blocks, for messages.
fn labels(blocks: &[Block]) -> String {
    let labels: Vec<_> = blocks.iter().map(|block| block.label.as_str()).collect();
    labels.join(", ")
}
