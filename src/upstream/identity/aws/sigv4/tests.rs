use super::*;

const HOST: (&str, &str) = ("host", "example.amazonaws.com");
const DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");

fn signature(method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
    let signing =
        Signing { access_key: "AKIDEXAMPLE", region: "us-east-1", service: "service", date: DATE.1 };
    let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
    signing.signature(&secret, &canonical_request(method, path, query, headers, &hash(body)))
}

/// The requests and the signatures of AWS's test suite for Signature Version 4.
#[test]
fn signatures_are_those_of_the_test_suite_of_aws() {
    let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let form = ("content-type", "application/x-www-form-urlencoded");
    let spaced = [HOST, ("my-header1", " value1"), ("my-header2", " \"a   b   c\""), DATE];
    let plain = [HOST, DATE];
    let same = format!("{unreserved}={unreserved}");
    for (name, found, expected) in [
        (
            "get-vanilla",
            signature("GET", "/", "", &plain, b""),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-vanilla-query-order-key-case",
            signature("GET", "/", "Param2=value2&Param1=value1", &plain, b""),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-unreserved",
            signature("GET", "/", &same, &plain, b""),
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "get-utf8",
            signature("GET", "/%E1%88%B4", "", &plain, b""),
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
        ),
        (
            "get-header-value-trim",
            signature("GET", "/", "", &spaced, b""),
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "post-vanilla",
            signature("POST", "/", "", &plain, b""),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "post-x-www-form-urlencoded",
            signature("POST", "/", "", &[form, HOST, DATE], b"Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ] {
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn secret_parts_are_encoded_for_a_query() {
    assert_eq!(encoded("a-_.~/+= \u{e9}"), "a-_.~%2F%2B%3D%20%C3%A9");
}
