use super::*;

const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn import(text: &str) -> ImportedKeys {
    import_keys(text, "2026-12-01T00:00:00Z".parse().unwrap()).unwrap()
}

#[test]
fn row_of_a_table_becomes_a_client() {
    let csv = format!(
        "token,key_alias,max_budget,budget_duration,tpm_limit,rpm_limit,max_parallel_requests,models,expires,blocked,spend\n\
         {DIGEST},search team,50,30d,200000,600,20,\"{{gpt-4o,\"\"claude*\"\"}}\",2027-01-31 12:00:00+00,f,3.5\n"
    );
    let imported = import(&csv);
    let table = format!(
        "[clients.search-team]\nkeys = [{{ sha256 = \"{DIGEST}\", until = \"2027-01-31T12:00:00Z\" }}]\n\
         models = [\"gpt-4o\", \"claude*\"]\nlimits = [{{ requests = 600, per = \"minute\" }}, \
         {{ tokens = 200000, per = \"minute\" }}, {{ concurrent = 20 }}, {{ cost = 50, per = \"month\" }}]\n"
    );
    assert!(imported.toml.ends_with(&table), "{}", imported.toml);
    let verdicts: Vec<_> = imported.notes.iter().map(|(verdict, _)| *verdict).collect();
    assert_eq!(verdicts, [Treatment::Near, Treatment::Taken]);
}

#[test]
fn json_rows_have_names_of_their_own() {
    let row = |alias: &str, more: &str| format!("{{\"token\": \"{DIGEST}\", \"key_alias\": {alias}{more}}}");
    let array = format!("[{}, {}]", row("\"a\"", ""), row("\"a\"", ", \"models\": [\"all-proxy-models\"]"));
    let lines = format!("{}\n{}\n", row("\"a\"", ""), row("null", ""));
    assert!(import(&array).toml.contains("[clients.a]\n") && import(&array).toml.contains("[clients.a-2]\n"));
    assert!(!import(&array).toml.contains("models"));
    assert!(import(&lines).toml.contains("[clients.key-2bb80d53]\n"));
}

#[test]
fn key_that_is_blocked_or_has_expired_is_left_out() {
    for more in [", \"blocked\": true", ", \"expires\": \"2026-11-30T23:59:59\""] {
        let imported = import(&format!("[{{\"token\": \"{DIGEST}\"{more}}}]"));
        assert!(
            !imported.toml.contains("[clients") && imported.notes[0].0 == Treatment::Taken,
            "{imported:?}"
        );
    }
}

#[test]
fn value_without_a_counterpart_is_left_to_a_person() {
    let row = format!(
        "{{\"token\": \"{DIGEST}\", \"team_id\": \"t1\", \"guardrails\": [\"x\"], \"aliases\": {{}}}}"
    );
    let verdicts: Vec<_> = import(&row).notes.into_iter().map(|(verdict, _)| verdict).collect();
    use Treatment::{ByHand, NotHere, Taken};
    assert_eq!(verdicts, [ByHand, NotHere, Taken]);
}

#[test]
fn key_whose_limit_has_no_counterpart_is_left_out() {
    for limit in ["\"max_budget\": 5", "\"rpm_limit\": 0", "\"max_budget\": 5, \"budget_duration\": \"3s\""] {
        let imported = import(&format!("{{\"token\": \"{DIGEST}\", {limit}}}"));
        assert!(!imported.toml.contains("[clients"), "{imported:?}");
        assert_eq!(imported.notes[0].0, Treatment::ByHand, "{imported:?}");
    }
}

#[test]
fn text_that_is_no_export_is_refused_without_its_secrets() {
    for text in
        ["", "a,b\n1,2\n", "[]", "[{\"key\": 1}]", "{\"token\": \"sk-marker\"}", "token\nsk-marker\n", "[1]"]
    {
        let error = import_keys(text, Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(!error.contains("marker"), "{text}: {error}");
    }
}
