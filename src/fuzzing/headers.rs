//! Compares the headers that pass with a plain list of those that must not.
//!
//! Input: `name: value` lines in up to three blocks with an empty line between them: the client's
//! headers, the custom ones, the credentials. Invalid lines are ignored.

use http::{HeaderName, HeaderValue};

use crate::codec::head::{HeaderField, Headers};
use crate::llm::rewrite::headers::{OutboundHeaders, end_hop, inbound};

/// Hop-by-hop headers, besides `proxy-*` and those that `Connection` names.
const HOP_BY_HOP: [&str; 6] = ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Headers of a client that are not for an upstream, besides `x-streamgauge-*`.
const NOT_FOR_UPSTREAMS: [&str; 14] = [
    "host",
    "content-length",
    "expect",
    "authorization",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "cookie",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

type Line = (String, Vec<u8>);

/// No header of the hop and no credential of the client passes; all others do, in their order.
pub fn headers(data: &[u8]) {
    let mut blocks = [Vec::new(), Vec::new(), Vec::new()];
    let mut block = 0;
    for line in data.split(|&byte| byte == b'\n') {
        if line.is_empty() {
            block = (block + 1).min(2);
        }
        blocks[block].extend(header(line));
    }
    let [client, custom, credentials] = blocks;
    let mut sent = Headers::default();
    client.iter().for_each(|(name, value)| sent.append(name.as_str().as_bytes(), value.as_bytes()));

    outbound(&sent, custom, credentials);
    let response: Vec<_> = sent.iter().map(field).filter(|(name, _)| !ends_here(&sent, name)).collect();
    inbound(&mut sent);
    assert_eq!(
        sent.iter().map(field).collect::<Vec<_>>(),
        response,
        "a response keeps all headers except the hop's"
    );
}

fn outbound(
    client: &Headers,
    custom: Vec<(HeaderName, HeaderValue)>,
    credentials: Vec<(HeaderName, HeaderValue)>,
) {
    let lines =
        |headers: &[(HeaderName, HeaderValue)]| -> Vec<Line> { headers.iter().cloned().map(line).collect() };
    let (custom_lines, credential_lines) = (lines(&custom), lines(&credentials));
    let has = |lines: &[Line], name: &str| lines.iter().any(|(other, _)| other == name);

    let mut expected = vec![("host".to_owned(), b"up.example".to_vec())];
    let own: Vec<_> = custom_lines
        .into_iter()
        .filter(|(name, _)| {
            !(is_hop(name)
                || NOT_FOR_UPSTREAMS[..3].contains(&name.as_str())
                || name.starts_with("x-streamgauge-")
                || has(&credential_lines, name))
        })
        .chain(credential_lines.iter().cloned())
        .collect();
    let own_names: Vec<_> = own.iter().map(|(name, _)| name.replace('_', "-")).collect();
    expected.extend(client.iter().map(field).filter(|(name, _)| {
        // Some servers read an underscore as a hyphen.
        let read = name.replace('_', "-");
        !(is_hop_by_hop(client, name)
            || is_hop(&read)
            || NOT_FOR_UPSTREAMS.contains(&read.as_str())
            || read.starts_with("x-streamgauge-")
            || own_names.contains(&read)
            || (read != *name && matches!(&*read, "content-type" | "content-encoding")))
    }));
    expected.extend(own);

    let host = HeaderValue::from_static("up.example");
    let outbound = OutboundHeaders::new(host, custom, credentials);
    let mut client = client.clone();
    end_hop(&mut client);
    let sent: Vec<_> = outbound.pairs(&client).map(line).collect();
    assert_eq!(sent, expected);
    let mut written = Vec::new();
    outbound.write(&client, &mut written);
    let lines = expected.iter().flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\r\n"].concat());
    assert_eq!(written, lines.collect::<Vec<_>>());
}

fn is_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name) || name.starts_with("proxy-")
}

fn ends_here(response: &Headers, name: &str) -> bool {
    is_hop_by_hop(response, name)
        || name.starts_with("x-streamgauge-")
        || ["alt-svc", "strict-transport-security"].contains(&name)
}

fn is_hop_by_hop(headers: &Headers, name: &str) -> bool {
    let connection = headers.iter().filter(|field| field.is_named("connection"));
    let connection: Vec<_> = connection.map(|field| String::from_utf8_lossy(field.value())).collect();
    let is_named = connection
        .iter()
        .flat_map(|value| value.split(','))
        .any(|option| option.trim_matches([' ', '\t']).eq_ignore_ascii_case(name) && name != "close");
    is_hop(name) || is_named
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.windows(2).position(|pair| pair == b": ")?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    Some((name, HeaderValue::from_bytes(&line[colon + 2..]).ok()?))
}

fn line((name, value): (HeaderName, HeaderValue)) -> Line {
    (name.as_str().to_owned(), value.as_bytes().to_vec())
}

fn field(field: HeaderField<'_>) -> Line {
    (String::from_utf8_lossy(field.name()).into_owned(), field.value().to_vec())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_and_every_cut_of_them_pass() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/headers");
        for entry in std::fs::read_dir(seeds).expect("the seeds are in the repository") {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=seed.len() {
                super::headers(&seed[..end]);
            }
        }
    }
}
