//! Certificates for tests, created for each run. Unit tests use this file too.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "it is a module of several crates")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::PrivateKeyInfo;
use pkcs8::der::Decode as _;
use pkcs8::pkcs5::pbes2;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber, date_time_ymd,
};

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The chain that is sent with its certificates; empty for a root.
    chain: String,
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// A root authority.
    pub fn new(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap();
        Self { issuer, chain: String::new() }
    }

    /// An authority that this one has signed.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(authority(name), key, &self.issuer).unwrap();
        let chain = format!("{}{}", issuer.pem(), self.chain);
        Self { issuer, chain }
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate with the common name and the alternative names, which may be addresses.
    pub fn issue(&self, common_name: &str, names: &[&str]) -> Pair {
        self.sign(leaf(common_name, names), &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    /// Issues one with a serial number.
    pub fn issue_numbered(&self, serial: u8, common_name: &str, names: &[&str]) -> Pair {
        let mut params = leaf(common_name, names);
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        self.sign(params, &KeyPair::generate().unwrap())
    }

    /// Issues one that expired on 2020-01-01.
    pub fn issue_expired(&self, common_name: &str, names: &[&str]) -> Pair {
        let mut params = leaf(common_name, names);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(params, &KeyPair::generate().unwrap())
    }

    /// Issues one for a key.
    pub fn issue_for(&self, key: &KeyPair, common_name: &str, names: &[&str]) -> Pair {
        self.sign(leaf(common_name, names), key)
    }

    /// Issues one whose key is PKCS#8 under a passphrase, in the form of OpenSSL 3.
    pub fn issue_encrypted(&self, common_name: &str, passphrase: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let pair = self.issue_for(&key, common_name, &[]);
        Pair { key: encrypted(&key, passphrase), ..pair }
    }

    /// Signs a certificate with these parameters, and adds its chain.
    pub fn sign(&self, params: CertificateParams, key: &KeyPair) -> Pair {
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Pair { certificate: format!("{}{}", certificate.pem(), self.chain), key: key.serialize_pem() }
    }
}

/// PKCS#8 under a passphrase, in the form of OpenSSL 3.
pub fn encrypted(key: &KeyPair, passphrase: &str) -> String {
    let info = PrivateKeyInfo::from_der(key.serialized_der()).unwrap();
    let params = pbes2::Parameters::pbkdf2_sha256_aes256cbc(2048, b"a salt..", &[7; 16]).unwrap();
    pem("ENCRYPTED PRIVATE KEY", info.encrypt_with_params(params, passphrase).unwrap().as_bytes())
}

/// A PEM block.
pub fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A self-signed certificate. `is_authority` marks it as `openssl req -x509` does.
pub fn self_signed(names: &[&str], is_authority: bool) -> Pair {
    let mut params = leaf("self", names);
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// The parameters of most certificates.
pub fn leaf(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if !common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = leaf(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
