//! Assertions: JSON Web Tokens that a key of ours signs (RFC 7519, RFC 7523 section 3).

use serde_json::Value;

use super::exchange::base64url;

/// The token with this header and these claims. `sign` gets the bytes to sign (RFC 7515 section
/// 5.1).
pub(super) fn signed<E>(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let [header, claims] = [header, claims].map(|part| base64url(part.to_string().as_bytes()));
    let mut token = format!("{header}.{claims}");
    let signature = base64url(&sign(token.as_bytes())?);
    token.push('.');
    token.push_str(&signature);
    Ok(token)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn token_has_three_parts_of_base64url() {
        let sign = |bytes: &[u8]| Ok::<_, ()>(bytes[..2].to_vec());
        let token = signed(&json!({"alg": "none"}), &json!({"a": "\u{ff}?"}), sign).unwrap();
        assert_eq!(token, "eyJhbGciOiJub25lIn0.eyJhIjoiw78_In0.ZXk");
        assert_eq!(signed(&json!({}), &json!({}), |_| Err("no")), Err("no"));
    }
}
