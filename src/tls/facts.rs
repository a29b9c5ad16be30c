//! Describes a certificate.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// The longest client name that is taken from a certificate, in bytes. It becomes a metric label.
const MAX_CLIENT_NAME: usize = 255;

/// The claims of a certificate. None is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject in the notation of RFC 4514.
    pub subject: String,
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Facts {
    /// The claims of a certificate. `None` if it cannot be parsed.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = Certificate::from_der(certificate).ok()?.tbs_certificate;
        let second = |time: x509_cert::time::Time| {
            Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
        };
        Some(Self {
            subject: parsed.subject.to_string(),
            issuer: parsed.issuer.to_string(),
            serial: parsed.serial_number.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: second(parsed.validity.not_before)?,
            not_after: second(parsed.validity.not_after)?,
        })
    }

    /// Explains why the certificate is not valid at `now`, with the date.
    pub fn untimely(&self, now: SystemTime) -> Option<String> {
        let now = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
        if now > self.not_after.as_second() {
            Some(format!("the certificate of {} expired on {}", self.who(), self.not_after))
        } else if now < self.not_before.as_second() {
            Some(format!("the certificate of {} is not valid before {}", self.who(), self.not_before))
        } else {
            None
        }
    }

    /// The subject, or a substitute if it is empty.
    pub fn who(&self) -> &str {
        if self.subject.is_empty() { "no name" } else { &self.subject }
    }
}

/// The name of the client that presented a certificate: the subject's common name, else the first
/// alternative name, else the serial number. It has no control characters and at most 255 bytes.
/// `None` if the certificate cannot be parsed.
pub fn client_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?.tbs_certificate;
    let serial = || parsed.serial_number.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let alternative = || {
        let (_, names) = parsed.get::<SubjectAltName>().ok()??;
        names.0.iter().find_map(general_name)
    };
    let name: String = common_name(&parsed.subject).or_else(alternative).unwrap_or_else(serial);
    let mut name: String = name.trim().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    while name.len() > MAX_CLIENT_NAME {
        name.pop();
    }
    Some(name)
}

/// The last `CN` (2.5.4.3), which is the most specific.
fn common_name(subject: &Name) -> Option<String> {
    const CN: &str = "2.5.4.3";
    let mut attributes = subject.0.iter().flat_map(|set| set.0.iter());
    let value = &attributes.rfind(|attribute| attribute.oid.to_string() == CN)?.value;
    let text = match value.tag() {
        x509_cert::der::Tag::Utf8String => Utf8StringRef::try_from(value).ok()?.as_str().to_owned(),
        x509_cert::der::Tag::PrintableString => PrintableStringRef::try_from(value).ok()?.as_str().to_owned(),
        x509_cert::der::Tag::TeletexString => TeletexStringRef::try_from(value).ok()?.as_str().to_owned(),
        x509_cert::der::Tag::Ia5String => Ia5StringRef::try_from(value).ok()?.as_str().to_owned(),
        _ => return None,
    };
    Some(text).filter(|text| !text.trim().is_empty())
}

fn general_name(name: &GeneralName) -> Option<String> {
    let text = match name {
        GeneralName::DnsName(name)
        | GeneralName::Rfc822Name(name)
        | GeneralName::UniformResourceIdentifier(name) => name.to_string(),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => std::net::Ipv4Addr::new(a, b, c, d).to_string(),
            ref bytes => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string(),
        },
        _ => return None,
    };
    Some(text).filter(|text| !text.trim().is_empty())
}
