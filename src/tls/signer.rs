//! Signatures of JSON Web Tokens by RSA keys (RFC 7518 sections 3.3 and 3.5), with the keys that
//! are read for TLS.

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::{Identity, pem, provider};
use crate::support::secret::Secret;

impl Identity {
    /// Returns true if the key is an RSA key.
    pub fn is_rsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }

    /// The first certificate in DER. Empty if there is none.
    pub fn certificate_der(&self) -> &[u8] {
        self.key.cert.first().map_or(&[], |certificate| certificate)
    }

    /// The signature of `PS256`. `None`: the key is no RSA key.
    pub fn sign_ps256(&self, message: &[u8]) -> Option<Vec<u8>> {
        sign(&*self.key.key, SignatureScheme::RSA_PSS_SHA256, message)
    }
}

/// An RSA key without a certificate.
#[derive(Clone, Debug)]
pub struct RsaSigner(Arc<dyn SigningKey>);

impl RsaSigner {
    /// The first private key of a PEM text.
    ///
    /// # Errors
    /// Fails if there is none, or if it is no RSA key. The message does not repeat it.
    pub fn of_pem(text: &Secret) -> Result<Self, String> {
        let blocks = pem::blocks(text.expose())?;
        let block = blocks.into_iter().find(|block| block.label.ends_with("PRIVATE KEY"));
        let block = block.ok_or("has no block -----BEGIN PRIVATE KEY-----")?;
        let key: PrivateKeyDer<'static> = match block.label.as_str() {
            "PRIVATE KEY" => PrivatePkcs8KeyDer::from(block.der).into(),
            "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(block.der).into(),
            _ => return Err("is no RSA key in plain PEM".to_owned()),
        };
        let key = provider().key_provider.load_private_key(key);
        let key = key.map_err(|_| "is damaged, or shorter than 2048 bits".to_owned())?;
        match key.algorithm() {
            SignatureAlgorithm::RSA => Ok(Self(key)),
            _ => Err("is no RSA key".to_owned()),
        }
    }

    /// The signature of `RS256`. `None`: the system provides no random numbers.
    pub fn sign_rs256(&self, message: &[u8]) -> Option<Vec<u8>> {
        sign(&*self.0, SignatureScheme::RSA_PKCS1_SHA256, message)
    }
}

fn sign(key: &dyn SigningKey, scheme: SignatureScheme, message: &[u8]) -> Option<Vec<u8>> {
    key.choose_scheme(&[scheme])?.sign(message).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rsa_keys_are_taken_and_no_message_shows_one() {
        let elliptic = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        for (text, reason) in [
            (elliptic.as_str(), "is no RSA key"),
            ("secret-text", "has no block -----BEGIN PRIVATE KEY-----"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
                "is damaged, or shorter than 2048 bits",
            ),
        ] {
            assert_eq!(RsaSigner::of_pem(&Secret::new(text.to_owned())).unwrap_err(), reason);
        }
        let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let signer = RsaSigner::of_pem(&Secret::new(rsa.serialize_pem())).unwrap();
        let (signed, again) = (signer.sign_rs256(b"a.b").unwrap(), signer.sign_rs256(b"a.b").unwrap());
        assert_eq!((signed.len(), &signed), (256, &again), "PKCS#1 signatures have nothing random");
    }
}
