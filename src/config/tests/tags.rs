//! `[tags]`, and fixed tags of clients and keys.

use super::*;

const CLIENT: &str = "[clients.a]\nkey = { value = \"0123456789abcdef\" }\n";

#[test]
fn tags_are_listed_and_chosen() {
    let text = format!(
        "{OPENAI}[tags]\nnames = [\"team\", \"cost-center_2\"]\nmetadata = [\"team\"]\nmetrics = [\"cost-center_2\"]\n\
         {CLIENT}tags = {{ team = \" search \" }}\n\
         keys = [{{ value = \"fedcba9876543210\", tags = {{ cost-center_2 = \"7\" }} }}]\n"
    );
    let loaded = from_text(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let tags = loaded.settings.tags.iter();
    let tags: Vec<_> =
        tags.map(|rule| (rule.name.to_string(), rule.is_in_metadata, rule.is_in_metrics)).collect();
    assert_eq!(tags, [("team".to_owned(), true, false), ("cost-center_2".to_owned(), false, true)]);
    let client = &loaded.settings.clients[0];
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(client.tags, pair("team", "search"));
    assert_eq!(client.keys[1].tags, pair("cost-center_2", "7"));
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn list_of_tags_comes_from_a_variable_too() {
    let variables = [("STREAMGAUGE_TAGS__NAMES", "team, feature")];
    let loaded = load_text(Some(OPENAI), &variables, None).unwrap();
    assert_eq!(loaded.settings.tags.len(), 2);
}

#[test]
fn mistake_in_tags_names_key_and_remedy() {
    let nine: Vec<_> = (0..9).map(|number| format!("\"t{number}\"")).collect();
    let nine = format!("[tags]\nnames = [{}]", nine.join(", "));
    let listed = format!("[tags]\nnames = [\"team\"]\n{CLIENT}");
    for (text, key, reason) in [
        ("[tags]\nnames = [\"Team\"]".to_owned(), "tags.names[0]", "write 1 to 32 lower-case letters"),
        ("[tags]\nnames = [7]".to_owned(), "tags.names[0]", "must be text in quotes"),
        ("[tags]\nnames = [\"a\", \"a\"]".to_owned(), "tags.names", "has \"a\" twice"),
        (nine, "tags.names", "has 9 names: a request has at most 8 tags"),
        ("[tags]\nmetadata = [\"team\"]".to_owned(), "tags.metadata", "\"team\" is not one of tags.names"),
        ("[tags]\nmetrics = [\"team\"]".to_owned(), "tags.metrics", "\"team\" is not one of tags.names"),
        (
            format!("{CLIENT}tags = {{ team = \"a\" }}"),
            "clients.a.tags.team",
            "add \"team\" to names in [tags]",
        ),
        (format!("{listed}tags = {{ team = 7 }}"), "clients.a.tags.team", "must be text in quotes"),
        (format!("{listed}tags = {{ team = \" \" }}"), "clients.a.tags.team", "write 1 to 64 bytes"),
        (format!("{listed}tags = \"team\""), "clients.a.tags", "must be a table"),
        (
            format!("{listed}keys = [{{ value = \"fedcba9876543210\", tags = {{ other = \"a\" }} }}]"),
            "clients.a.keys[0].tags.other",
            "add \"other\" to names in [tags]",
        ),
    ] {
        let mistakes = from_text(&format!("{OPENAI}{text}\n")).unwrap_err().to_string();
        assert!(mistakes.contains(key) && mistakes.contains(reason), "{text}: {mistakes}");
        assert_eq!(mistakes.lines().filter(|line| line.contains(": ")).count(), 1, "{mistakes}");
    }
}
