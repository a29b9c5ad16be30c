//! The dashboards of `config/grafana`: runs every query against its real data source, after traffic
//! that leaves no panel empty.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use crate::grafana::{Dashboard, fill};
use crate::harness::postgres::Server;
use crate::prometheus::Prometheus;
use crate::scene::Scene;
use crate::{traffic, until};

/// The value for each variable of a dashboard.
type Choice = HashMap<String, String>;

#[test]
fn every_panel_says_what_it_shows_and_stands_beside_the_others() {
    for name in ["prometheus.json", "postgres.json"] {
        let dashboard = Dashboard::read(name);
        let json = dashboard.json();
        assert!(json["uid"].is_string() && json["schemaVersion"].is_u64() && json["description"].is_string());
        let mut ids = Vec::new();
        let mut taken: HashMap<(u64, u64), &Value> = HashMap::new();
        for panel in json["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            ids.push(panel["id"].as_u64().unwrap());
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(x + w <= 24, "{name}: {title}");
            for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert_eq!(taken.insert(place, &panel["title"]), None, "{name}: {title} covers another");
            }
        }
        let mut titles = HashSet::new();
        for panel in dashboard.panels() {
            let title = &panel["title"];
            assert!(titles.insert(title), "{name}: two panels are called {title}");
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{name}: {title}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {title} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            if panel["type"] == "timeseries" || panel["type"] == "barchart" {
                assert_eq!(panel["options"]["legend"]["showLegend"], true, "{name}: {title}");
            }
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{name}: two panels have one id");
    }
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn every_query_of_the_prometheus_dashboard_has_data() {
    let mut scene = Scene::start();
    let prometheus = Prometheus::start(&scene);
    // Rates need two scrapes.
    prometheus.wait_for_requests(scene.send_traffic());
    prometheus.wait_for_requests(scene.send_traffic());
    let _stream = traffic::endless_stream(scene.proxy);
    until("the scrape of a running stream", || {
        let sum = prometheus.query("sum(streamgauge_streams_active)");
        (sum[0].1 == 1.0).then_some(())
    });
    let dashboard = Dashboard::read("prometheus.json");
    let fill = |text: &str, choice: &Choice| {
        fill(text, &|name, _| match name {
            "__rate_interval" => Some("1m".to_owned()),
            "__range" => Some("86400s".to_owned()),
            name => choice.get(name).cloned(),
        })
    };
    let defaults = defaults(&dashboard);
    let (mut all, mut each) = (defaults.clone(), defaults);
    for variable in dashboard.variables() {
        let query = fill(variable.query, &each);
        let values = label_values(&prometheus, &query);
        assert!(!values.is_empty(), "{query} has no values");
        let values: Vec<_> = values.iter().map(|value| escaped(value)).collect();
        all.insert(variable.name.to_owned(), variable.all.to_owned());
        each.insert(variable.name.to_owned(), format!("({})", values.join("|")));
    }
    for query in dashboard.queries() {
        for choice in [&all, &each].into_iter().flat_map(|choice| variants(&dashboard, query.text, choice)) {
            let text = fill(query.text, &choice);
            let title = &query.panel["title"];
            let series = match query.target["instant"] == true {
                true => prometheus.query(&text),
                false => prometheus.query_range(&text),
            };
            let is_some = series.iter().any(|(_, value)| value.is_finite());
            assert!(is_some, "{title} is empty: {text}: {series:?}");
            assert!(series.iter().all(|&(_, value)| value.is_nan() || value >= 0.0), "{title}: {series:?}");
            let legend = query.target["legendFormat"].as_str().unwrap();
            for label in legend.split("{{").skip(1).map(|rest| rest.split_once("}}").unwrap().0) {
                assert!(series.iter().any(|(labels, _)| labels.contains_key(label)), "{title}: no {label}");
            }
        }
    }
    let of = |title: &str| {
        let query = dashboard.queries().find(|query| query.panel["title"] == title).unwrap();
        prometheus.query(&fill(query.text, &all))
    };
    // Prometheus' results after twice the same traffic.
    for title in ["Input tokens", "Output tokens", "Requests", "Running now", "Cost", "Sums", "Outcomes"] {
        assert!(of(title).iter().any(|&(_, value)| value > 0.0), "{title}: {:?}", of(title));
    }
    let clients: Vec<_> = of("Sums").into_iter().map(|(labels, _)| labels["client"].clone()).collect();
    assert_eq!(clients, ["search", "support"]);
}

/// `label_values(series, label)`, which Grafana turns into a query of its own.
fn label_values(prometheus: &Prometheus, query: &str) -> Vec<String> {
    let inner = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')')).unwrap();
    let (series, label) = inner.rsplit_once(", ").unwrap();
    let values = prometheus.api(&format!("label/{label}/values"), &[("match[]", series)]);
    values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// Grafana's escaping of one of several values for a regular expression in a string of PromQL.
fn escaped(value: &str) -> String {
    let special = |c: char| r"\$^*{}[]'+?.()|".contains(c);
    value.chars().map(|c| if special(c) { format!(r"\\{c}") } else { c.to_string() }).collect()
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn postgres_dashboard_queries_have_data_and_the_ledgers_sums() {
    let mut scene = Scene::start();
    scene.send_traffic();
    let dashboard = Dashboard::read("postgres.json");
    let now = jiff::Timestamp::now();
    let (from, to) = (now - jiff::SignedDuration::from_hours(24), now + jiff::SignedDuration::from_mins(1));
    let fill = |text: &str, choice: &Choice| {
        fill(text, &|name, arguments| match (name, arguments) {
            ("__timeFilter", [column]) => Some(format!("{column} BETWEEN '{from}' AND '{to}'")),
            ("__timeGroupAlias", [column, "1m"]) => {
                Some(format!("floor(extract(epoch from {column})/60)*60 AS \"time\""))
            }
            ("__interval", _) => Some("1m".to_owned()),
            (name, _) => choice.get(name).cloned(),
        })
    };
    let defaults = defaults(&dashboard);
    let (mut all, mut each) = (defaults.clone(), defaults);
    for variable in dashboard.variables() {
        let query = fill(variable.query, &each);
        let values = scene.postgres.sql(&query);
        assert!(!values.is_empty(), "{query} has no values");
        let values: Vec<_> = values.lines().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
        all.insert(variable.name.to_owned(), variable.all.to_owned());
        each.insert(variable.name.to_owned(), values.join(","));
    }
    for query in dashboard.queries() {
        let title = &query.panel["title"];
        let ask = |choice: &Choice| rows(&scene.postgres, &fill(query.text, choice));
        let [rows, chosen] = [&all, &each].map(ask);
        assert_eq!(rows.len(), chosen.len(), "{title}: all values are not All");
        for choice in variants(&dashboard, query.text, &all) {
            assert!(!ask(&choice).is_empty(), "{title} is empty: {choice:?}");
        }
        let has_number = |row: &BTreeMap<String, Value>| {
            row.iter().any(|(name, value)| name != "time" && value.as_f64().is_some_and(|value| value >= 0.0))
        };
        assert!(rows.iter().any(has_number), "{title} is empty: {rows:?}");
        let field = match query.target["format"].as_str().unwrap() {
            "time_series" => Some("time"),
            _ => query.panel["options"]["xField"].as_str(),
        };
        let has_field = |field| rows.iter().all(|row| row.get(field).is_some_and(|value| !value.is_null()));
        assert!(field.is_none_or(has_field), "{title} has no {field:?}: {rows:?}");
    }
    let sum = |title: &str, column: &str| -> Value {
        let query = dashboard.queries().find(|query| query.panel["title"] == title).unwrap();
        let rows = rows(&scene.postgres, &fill(query.text, &all));
        rows.iter().filter_map(|row| row[column].as_u64()).sum::<u64>().into()
    };
    let total = &scene.usage("user")["total"];
    for (title, column, member) in [
        ("Requests", "requests", "requests"),
        ("Input tokens", "input", "input_tokens"),
        ("Output tokens", "output", "output_tokens"),
        ("Chart", "value", "total_tokens"),
        ("Sums", "requests", "requests"),
        ("Sums", "failed", "failed_requests"),
        ("Sums", "input", "input_tokens"),
        ("Sums", "cached", "cached_input_tokens"),
        ("Sums", "output", "output_tokens"),
        ("Sums", "reasoning", "reasoning_tokens"),
        ("Sums", "total", "total_tokens"),
        ("Usage sources", "value", "requests"),
        ("Outcomes", "value", "requests"),
    ] {
        assert_eq!(sum(title, column), total[member], "{title}: {column}");
        assert_ne!(total[member], json!(0), "{member}");
    }
}

/// The default values of the variables with fixed values.
fn defaults(dashboard: &Dashboard) -> Choice {
    dashboard.choices().map(|(name, values)| (name.to_owned(), values[0].clone())).collect()
}

/// This choice, with each value in turn of every fixed variable that the text has.
fn variants(dashboard: &Dashboard, text: &str, choice: &Choice) -> Vec<Choice> {
    let mut variants = vec![choice.clone()];
    for (name, values) in dashboard.choices().filter(|(name, _)| text.contains(&format!("${name}"))) {
        for value in values {
            variants.push(Choice::from_iter(choice.clone().into_iter().chain([(name.to_owned(), value)])));
        }
    }
    variants
}

/// Both dashboards have the parts of streamgauge's own, in its order.
#[test]
fn dashboards_have_the_order_of_the_page() {
    for name in ["prometheus.json", "postgres.json"] {
        let dashboard = Dashboard::read(name);
        let rows = dashboard.json()["panels"].as_array().unwrap().iter();
        let rows: Vec<_> = rows.filter(|panel| panel["type"] == "row").map(|row| &row["title"]).collect();
        assert_eq!(rows[..3], ["At a glance", "Over time", "Table"], "{name}");
        let tiles: Vec<_> = dashboard.panels().filter(|panel| panel["type"] == "stat").collect();
        assert!(tiles.len() >= 8 && tiles.iter().take(8).all(|tile| tile["gridPos"]["y"] == 1), "{name}");
        let chart = dashboard.panels().find(|panel| panel["title"] == "Chart").unwrap();
        assert_eq!((&chart["gridPos"]["w"], &chart["type"]), (&json!(24), &json!("timeseries")), "{name}");
        let names: Vec<_> = dashboard.choices().map(|(name, _)| name).collect();
        assert_eq!(names, ["measure", "split", "rows"], "{name}");
    }
}

/// The result of a query: rows, each with its columns.
fn rows(server: &Server, query: &str) -> Vec<BTreeMap<String, Value>> {
    let rows = server.sql(&format!("SELECT coalesce(json_agg(row), '[]') FROM ({query}) row"));
    serde_json::from_str(&rows).unwrap()
}
