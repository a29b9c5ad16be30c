//! Parses PEM (RFC 7468) in the forms that occur in practice: bundles, CRLF, text around the
//! blocks, and a whole file on one line, with spaces or `\n` instead of line breaks, as in an
//! environment variable.
//!
//! The parser is laxer than the RFC in white space only: a block without its end, or with a
//! character that is not base64, is an error.

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;

pub(super) struct Block {
    /// The text after `BEGIN`.
    pub(super) label: String,
    /// The decoded contents.
    pub(super) der: Vec<u8>,
    /// Encrypted in OpenSSL's old form, with parameters before the base64 (RFC 1421 section 4.6).
    pub(super) old_encryption: bool,
}

/// Every block of a text, in its order.
pub(super) fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let number = found.len() + 1;
        let Some((label, inside)) = after.split_once(DASHES) else {
            return Err(format!("block {number} begins, but its first line does not end with {DASHES}"));
        };
        // Messages repeat only labels, never text that could be part of a key.
        if label.len() > MAX_LABEL
            || !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" .-_".contains(&byte))
        {
            return Err(format!("block {number} begins with an invalid label"));
        }
        let end = format!("{END}{label}{DASHES}");
        let Some((inside, after)) = inside.split_once(&end) else {
            return Err(format!(
                "block {number} ({label}) has no end: {end} is missing, so it is incomplete"
            ));
        };
        rest = after;
        found.push(
            block(label, inside).ok_or_else(|| format!("block {number} ({label}) is not base64 inside"))?,
        );
    }
    Ok(found)
}

/// Decodes base64, and ignores white space.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    LAX.decode(text).ok()
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// The longest label. Real ones have less than half of this.
const MAX_LABEL: usize = 64;

/// Padding may be missing, since it is easily lost in copying.
const LAX: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(false),
);

fn block(label: &str, inside: &str) -> Option<Block> {
    let inside = inside.replace("\\r", "\n").replace("\\n", "\n");
    let old_encryption = inside.contains("Proc-Type:");
    // The base64 after those headers cannot be used without their parameters.
    let der = if old_encryption { Vec::new() } else { base64(&inside)? };
    Some(Block { label: label.to_owned(), der, old_encryption })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "subject=CN = a\n-----BEGIN CERTIFICATE-----\nAAEC\nAwQF\n-----END CERTIFICATE-----\nissuer=b\n\
                       -----BEGIN PRIVATE KEY-----\nBgc=\n-----END PRIVATE KEY-----\n";

    fn read(text: &str) -> Vec<(String, Vec<u8>)> {
        let blocks = blocks(text).unwrap_or_else(|reason| panic!("{text:?}: {reason}"));
        blocks.into_iter().map(|block| (block.label, block.der)).collect()
    }

    #[test]
    fn white_space_and_text_around_the_blocks_do_not_count() {
        let expected =
            [("CERTIFICATE".to_owned(), vec![0, 1, 2, 3, 4, 5]), ("PRIVATE KEY".to_owned(), vec![6, 7])];
        for text in [
            TWO.to_owned(),
            TWO.replace('\n', "\r\n"),
            TWO.replace('\n', " "),
            TWO.replace('\n', "\\n"),
            TWO.replace('\n', "\\r\\n"),
            TWO.replace("Bgc=", "Bgc"),
            TWO.replace('\n', "\n   "),
            format!("\u{feff}{TWO}"),
            TWO.trim_end().to_owned(),
        ] {
            assert_eq!(read(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_text_without_a_block_has_none() {
        for text in ["", "no PEM", "-----END CERTIFICATE-----", "MIIB"] {
            assert_eq!(read(text), [], "{text:?}");
        }
    }

    #[test]
    fn incomplete_pem_is_a_mistake_that_shows_no_content() {
        for (text, reason) in [
            (&TWO[..TWO.len() - 10], "block 2 (PRIVATE KEY) has no end"),
            ("-----BEGIN CERTIFICATE", "block 1 begins, but its first line does not end"),
            ("-----BEGIN CERT!secret-----", "an invalid label"),
            ("-----BEGIN X-----\nse;cret\n-----END X-----", "block 1 (X) is not base64 inside"),
            ("-----BEGIN X-----\nAAEC\n-----END Y-----", "has no end: -----END X----- is missing"),
        ] {
            let found = blocks(text).err().unwrap_or_else(|| panic!("{text:?} was taken"));
            assert!(found.contains(reason), "{reason:?} in {found:?}");
            assert!(!found.contains("secret") && !found.contains("Bgc"), "{found:?}");
        }
    }

    #[test]
    fn cut_bundle_is_shorter_or_a_mistake_and_never_a_panic() {
        for end in 0..TWO.len() {
            if let Ok(found) = blocks(&TWO[..end]) {
                assert!(found.len() < 2 || end >= TWO.trim_end().len());
            }
        }
    }
}
