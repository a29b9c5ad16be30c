//! Conversations of a group stay at one member.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::harness::{CHAT_BODY, Proxy, Upstream, free_address, proxy, sized};

const MEMBERS: [&str; 4] = ["a", "b", "c", "d"];

fn good() -> Upstream {
    Upstream::responding(sized("200 OK", "application/json", CHAT_BODY.as_bytes()))
}

fn group(addresses: &[SocketAddr], lines: &str) -> Proxy {
    let members = MEMBERS.into_iter().zip(addresses);
    let builder = members.fold(proxy(), |builder, (name, address)| builder.other(name, *address));
    let names: Vec<_> = MEMBERS[..addresses.len()].iter().map(|name| format!("\"{name}\"")).collect();
    let names = names.join(", ");
    builder
        .admin()
        .tables(&format!("[groups.chat]\ntiers = [[{names}]]\n{lines}\n[[routes]]\nupstream = \"chat\""))
        .run()
}

/// The member that serves a request with these header lines and this body.
fn served_by(proxy: &Proxy, headers: &str, body: &str) -> String {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = proxy.client().send(request).response();
    assert_eq!(response.status(), 200, "{}", response.text());
    response.header("x-streamgauge-upstream").unwrap().to_owned()
}

/// The body of a turn: the history of the conversation so far.
fn turn(conversation: usize, turn: usize) -> String {
    let system = "You are a helpful assistant. ".repeat(90);
    let history: Vec<_> =
        (0..=turn).map(|turn| format!("{{\"role\":\"user\",\"content\":\"turn {turn}\"}}")).collect();
    format!(
        "{{\"model\":\"m\",\"messages\":[{{\"role\":\"system\",\"content\":\"{conversation}: {system}\"}},{}]}}",
        history.join(",")
    )
}

#[test]
fn turns_of_a_conversation_go_to_one_member_in_every_proxy() {
    let members = [good(), good(), good(), good()];
    let addresses: Vec<_> = members.iter().map(|member| member.address).collect();
    let proxies = [group(&addresses, ""), group(&addresses, "")];
    let mut load: HashMap<String, usize> = HashMap::new();
    for conversation in 0..60 {
        let member = served_by(&proxies[0], "", &turn(conversation, 0));
        for number in 1..4 {
            let again = served_by(&proxies[number % 2], "", &turn(conversation, number));
            assert_eq!(again, member, "turn {number} of {conversation}");
        }
        *load.entry(member).or_default() += 1;
    }
    assert!(load.len() == 4 && load.values().all(|count| (5..=28).contains(count)), "{load:?}");
    let kept = proxies[0].metric("streamgauge_sticky_total{group=\"chat\",result=\"kept\"}");
    assert!(kept > 0.0);
}

#[test]
fn prompt_stays_at_its_member_under_each_alias_of_the_model() {
    let members = [good(), good(), good(), good()];
    let named = MEMBERS.into_iter().zip(&members);
    let aliases = "models = { fast = \"m\", quick = \"m\" }";
    let builder = named
        .fold(proxy(), |builder, (name, member)| builder.other(name, member.address).tables(aliases))
        .tables("[groups.chat]\ntiers = [[\"a\", \"b\", \"c\", \"d\"]]\n[[routes]]\nupstream = \"chat\"");
    let proxy = builder.run();
    for conversation in 0..12 {
        let turn = turn(conversation, 0);
        let at = |model: &str| served_by(&proxy, "", &turn.replace("\"m\"", &format!("\"{model}\"")));
        let member = at("m");
        assert_eq!([at("fast"), at("quick")], [&*member, &*member], "{conversation}");
    }
}

#[test]
fn only_conversations_of_a_dead_member_move() {
    let mut members = [good(), good(), good(), good()];
    let addresses = |members: &[Upstream]| members.iter().map(|member| member.address).collect::<Vec<_>>();
    let before = group(&addresses(&members), "");
    let homes: Vec<_> = (0..40).map(|number| served_by(&before, "", &turn(number, 0))).collect();
    members[2].address = free_address();
    let after = group(&addresses(&members), "");
    for (number, home) in homes.iter().enumerate() {
        let now = served_by(&after, "", &turn(number, 1));
        assert_eq!(now == *home, home != "c", "{number}: {home} before, {now} now");
    }
}

#[test]
fn first_name_of_a_conversation_decides() {
    let members = [good(), good(), good(), good()];
    let addresses: Vec<_> = members.iter().map(|member| member.address).collect();
    let proxy =
        group(&addresses, "sticky = [\"session\", \"x-thread\", \"prompt_cache_key\", \"conversation\"]");
    let same = |one: (&str, &str), other: (&str, &str)| {
        served_by(&proxy, one.0, one.1) == served_by(&proxy, other.0, other.1)
    };
    for number in 0..8 {
        let header = |name: &str| format!("{name}: s{number}\r\n");
        let session = header("X-Session-Id");
        assert!(same(
            (&session, "{\"model\":\"m\"}"),
            (&session, "{\"model\":\"m\",\"prompt_cache_key\":\"k\"}")
        ));
        let body = format!("{{\"model\":\"m\",\"session_id\":\"s{number}\"}}");
        assert!(same((&session, "{\"model\":\"m\"}"), ("", &body)), "OpenRouter's name for it");
        assert!(same((&header("x-thread"), "{\"model\":\"m\"}"), (&header("X-Thread"), "{\"model\":\"n\"}")));
        let key = |text: &str| {
            format!("{{\"model\":\"m\",\"{text}\":\"k{number}\",\"messages\":[{{\"content\":\"{text}\"}}]}}")
        };
        assert!(same(("", &key("prompt_cache_key")), ("", &key("prompt_cache_key"))));
        let object = format!("{{\"model\":\"m\",\"conversation\":{{\"id\":\"k{number}\"}}}}");
        assert!(same(("", &key("conversation")), ("", &object)));
    }
}
