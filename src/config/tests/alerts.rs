//! `[[alerts]]`.

use super::*;

const URL: &str = "url = { value = \"https://hooks.example/services/marker?sig=marker\" }\n";

#[test]
fn webhook_has_defaults_and_hides_its_url() {
    let loaded =
        from_text(&format!("{OPENAI}[[alerts]]\n{URL}")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let [alert] = &loaded.settings.alerts[..] else { panic!("one webhook") };
    assert_eq!((&alert.thresholds[..], alert.upstreams), (&[0.8, 1.0][..], true));
    assert_eq!(alert.url.target(), "/services/marker?sig=marker");
    let body = alert.template.render(|_| "it's \"out\"".into());
    assert_eq!(body, r#"{"text": "it's \"out\""}"#);
    assert!(alert.signing_key.is_none());
    for shown in [format!("{alert:?}"), loaded.settings.effective.to_string()] {
        assert!(!shown.contains("marker"), "{shown}");
    }
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn notice_goes_to_the_path_as_it_is_written() {
    for (path, target) in
        [("", "/"), ("/", "/"), ("/catch/1", "/catch/1"), ("/catch/1/", "/catch/1/"), ("?a=b/", "/?a=b/")]
    {
        let text = format!("{OPENAI}[[alerts]]\nurl = {{ value = \"https://hooks.example{path}\" }}\n");
        let loaded = from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(loaded.settings.alerts[0].url.target(), target, "{path}");
    }
}

#[test]
fn url_without_path_and_thresholds_in_any_order_are_taken() {
    let text =
        "[[alerts]]\nurl = { value = \"http://127.0.0.1:9\" }\nlimits = [1, 0.5, 1]\nupstreams = false\n";
    let loaded = from_text(&format!("{OPENAI}{text}")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let [alert] = &loaded.settings.alerts[..] else { panic!("one webhook") };
    assert_eq!((&alert.thresholds[..], alert.url.target()), (&[0.5, 1.0][..], "/".to_owned()));
}

#[test]
fn mistake_in_webhook_names_key_and_remedy() {
    for (text, key, reason) in [
        ("limits = [1]".to_owned(), "alerts[0].url", "is missing: write url = { env = \"NAME\" }"),
        ("url = \"https://marker\"".to_owned(), "alerts[0].url", "is a secret"),
        ("url = { value = \"ftp://marker\" }".to_owned(), "alerts[0].url", "neither http nor https"),
        (
            "url = { value = \"https://h/?a=marker#b\" }".to_owned(),
            "alerts[0].url",
            "its query has a fragment",
        ),
        (format!("{URL}limits = [0]"), "alerts[0].limits[0]", "must be a part of a limit, such as 0.8"),
        (format!("{URL}limits = [\"all\"]"), "alerts[0].limits[0]", "must be a part of a limit"),
        (
            format!("{URL}limits = []\nupstreams = false\nledger = false"),
            "alerts[0].limits",
            "there is nothing to tell",
        ),
        (format!("{URL}spikes = 0"), "alerts[0].spikes", "must be the cost of an hour above which"),
        (
            format!("{URL}spikes = 1"),
            "alerts[0]",
            "has spikes of cost, and there are no [[prices]]: add them",
        ),
        (format!("{URL}signing_key = \"marker\""), "alerts[0].signing_key", "is a secret"),
        (format!("{URL}template = \"${{message}}\""), "alerts[0].template", "places are inside of quotes"),
        (format!("{URL}template = '{{\"text\": \"${{who}}\"}}'"), "alerts[0].template", "none of ${message}"),
        (format!("{URL}channel = \"a\""), "alerts[0].channel", "unknown"),
    ] {
        let mistakes = from_text(&format!("{OPENAI}[[alerts]]\n{text}\n")).unwrap_err().to_string();
        assert!(mistakes.contains(key) && mistakes.contains(reason), "{text}: {mistakes}");
        assert!(!mistakes.contains("marker"), "{mistakes}");
    }
}

#[test]
fn http_to_another_machine_is_warned_of() {
    let text = "[[alerts]]\nurl = { value = \"http://hooks.example/marker\" }\n";
    let loaded = from_text(&format!("{OPENAI}{text}")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(warning.contains("alerts[0].url: is http:// to another machine"), "{warning}");
}
