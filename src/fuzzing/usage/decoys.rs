//! Random documents full of what looks like usage and is none, and of what is: the meters against the oracle.

use fastrand::Rng;

/// The keys on the way to usage, and some that lead nowhere.
const KEYS: [&str; 14] = [
    "usage",
    "usage",
    "response",
    "message",
    "choices",
    "x_groq",
    "delta",
    "model",
    "type",
    "error",
    "provider_metadata",
    "usage_breakdown",
    "arguments",
    "output",
];

/// Values that say something at the right place, and nothing at any other.
const SAYINGS: [&str; 16] = [
    r#"{"prompt_tokens":1}"#,
    r#"{"prompt_tokens":3,"completion_tokens":2.0,"total_tokens":"5"}"#,
    r#"{"input_tokens":0,"output_tokens":0}"#,
    r#"{"input_tokens":-1,"output_tokens":1.5}"#,
    r#"{"input_tokens":null,"usage":{"input_tokens":7}}"#,
    r#"{"type":"duration","seconds":1.25}"#,
    "{}",
    "null",
    r#""\"usage\":{\"prompt_tokens\":1}""#,
    r#""{\"usage\":{\"prompt_tokens\":1,\"total_tokens\":9}}""#,
    r#""usage""#,
    r#""m""#,
    r#""message_delta""#,
    r#""image_generation.completed""#,
    r#"[{"usage":{"prompt_tokens":4}}]"#,
    "7",
];

/// How many are made of each kind.
const DOCUMENTS: usize = 600;

/// A value that is at most so deep.
fn value(random: &mut Rng, depth: u32) -> String {
    match random.u8(..8) {
        0..=2 if depth > 0 => object(random, depth - 1),
        3 if depth > 0 => {
            let items: Vec<_> = (0..random.usize(..3)).map(|_| value(random, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => random.choice(SAYINGS).unwrap_or("0").to_owned(),
    }
}

/// Keys may come twice, and space anywhere.
fn object(random: &mut Rng, depth: u32) -> String {
    let members: Vec<_> = (0..random.usize(..5))
        .map(|_| {
            let space = random.choice(["", "", " ", "\t"]).unwrap_or("");
            format!("\"{}\"{space}:{space}{}", random.choice(KEYS).unwrap_or("x"), value(random, depth))
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn nothing_that_only_looks_like_usage_counts_and_all_that_is_usage_does() {
    let mut random = Rng::with_seed(7);
    let mut with_usage = 0;
    for _ in 0..DOCUMENTS {
        let document = object(&mut random, 4);
        super::usage(document.as_bytes());
        let mut stream = String::new();
        for _ in 0..random.usize(1..4) {
            let name = random.choice(["", "", "event: message_start\n", "event: image_edit.completed\n"]);
            stream += &format!("{}data: {}\n\n", name.unwrap_or(""), object(&mut random, 4));
        }
        super::usage(stream.as_bytes());
        with_usage += usize::from(super::meter_stream(&[stream.as_bytes()]).tally.usage.is_some());
    }
    assert!(
        (DOCUMENTS / 50..DOCUMENTS / 2).contains(&with_usage),
        "{with_usage} of {DOCUMENTS} streams have usage"
    );
}
