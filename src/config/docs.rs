//! The description as Markdown: `docs/configuration.md`.

use std::fmt::{self, Write as _};

use serde_json::Value as Json;

use super::description::{Description, Key};
use super::key_path::KeyPath;
use super::kind::Shape;
use super::reader::ANY_NAME;

const TITLE: &str = "# Configuration\n
<!-- Written by `streamgauge config docs` from config/default.toml. Edit that file instead. -->
";

const SCHEMA: &str = "## In an editor\n
`streamgauge config schema` writes a JSON Schema of all keys, with these descriptions. Editors with
a TOML language server, such as VS Code with the extension Even Better TOML (taplo), then complete
and check keys while you type:

```sh
streamgauge config schema > streamgauge.schema.json
```

```toml
#:schema ./streamgauge.schema.json
```

That line is the first of `streamgauge.toml`. `streamgauge check` checks more: the environment, the
files that keys name, and the rules between keys.
";

/// The keys of the root, which a file has to write before its first table.
const BEFORE: &str = "Before the first table";

/// The longest line.
const WIDTH: usize = 100;

/// The whole page.
pub(super) fn docs(description: &Description) -> String {
    let mut page = String::new();
    write(&mut page, description).expect("a String takes everything");
    page
}

fn write(page: &mut String, description: &Description) -> fmt::Result {
    let tables = || description.keys.iter().filter(|key| key.shape.is_table());
    write!(page, "{TITLE}\n{}\n\n{SCHEMA}\n## Tables\n\n", description.introduction)?;
    writeln!(page, "- [{BEFORE}](#{})", anchor(BEFORE))?;
    for table in tables() {
        writeln!(page, "- [`{}`](#{})", heading(table), anchor(&heading(table)))?;
    }
    writeln!(page, "\n## {BEFORE}")?;
    for key in description.inside(&KeyPath::root()).filter(|key| !is_named(key)) {
        entry(page, description, key)?;
    }
    for table in tables() {
        writeln!(page, "\n## `{}`", heading(table))?;
        if table.shape.alternatives().len() > 1 {
            write!(page, "\n- Type: {}\n", type_of(description, table))?;
            writeln!(page, "- Environment variable: {}", variable(description, table))?;
        }
        if !table.comment.is_empty() {
            writeln!(page, "\n{}", table.comment)?;
        }
        let keys: Vec<_> = description.inside(&table.form).filter(|key| !key.shape.is_table()).collect();
        match keys.first().and_then(|key| description.original(key)) {
            Some(original) => {
                let table = description.keys.iter().find(|key| key.form == original.form.parent());
                let name = table.map(heading).unwrap_or_default();
                write!(page, "\nThe keys are described in [`{name}`](#{}).\n\n", anchor(&name))?;
                writeln!(page, "| key | type | default | environment variable |\n|---|---|---|---|")?;
                for key in keys {
                    let name = key.form.last().unwrap_or_default();
                    let default = default(key).unwrap_or_default();
                    writeln!(
                        page,
                        "| `{name}` | {} | {default} | {} |",
                        type_of(description, key),
                        variable(description, key)
                    )?;
                }
            }
            None => {
                for key in keys {
                    entry(page, description, key)?;
                }
            }
        }
    }
    Ok(())
}

fn entry(page: &mut String, description: &Description, key: &Key) -> fmt::Result {
    let kind = wrapped(&format!("- Type: {}", type_of(description, key)));
    write!(page, "\n### `{}`\n\n{kind}\n", key.form)?;
    match default(key) {
        Some(default) if default.len() + "- Default: ".len() <= WIDTH => {
            writeln!(page, "- Default: {default}")?
        }
        Some(_) => writeln!(page, "- Default: below")?,
        None if key.is_required => writeln!(page, "- Required")?,
        None => {}
    }
    writeln!(page, "- Environment variable: {}", variable(description, key))?;
    if let Some(example) = key.example.as_ref().filter(|_| key.default.is_none()) {
        writeln!(page, "- Example: `{example}`")?;
    }
    if !key.comment.is_empty() {
        writeln!(page, "\n{}", key.comment)?;
    }
    if let Some(Json::Array(items)) =
        key.default.as_ref().filter(|default| default.to_string().len() > WIDTH - 20)
    {
        write!(page, "\n```text\n{} = [", key.form.last().unwrap_or_default())?;
        let mut width = WIDTH;
        for item in items {
            let item = format!(" {item},");
            if width + item.len() > WIDTH {
                page.push_str("\n ");
                width = 1;
            }
            width += item.len();
            page.push_str(&item);
        }
        writeln!(page, "\n]\n```")?;
    }
    Ok(())
}

/// An item of a list, in lines that are not too long.
fn wrapped(item: &str) -> String {
    let mut text = String::new();
    let mut width = 0;
    for word in item.split(' ') {
        if width + word.chars().count() + 1 > WIDTH {
            text += "\n ";
            width = 1;
        }
        if width > 0 {
            text.push(' ');
            width += 1;
        }
        text += word;
        width += word.chars().count();
    }
    text
}

/// Returns true if the key is a table, or a table of tables with names.
fn is_named(key: &Key) -> bool {
    key.shape.is_table() || matches!(key.shape, Shape::Names(_))
}

/// The table as a file writes it.
fn heading(table: &Key) -> String {
    match table.shape {
        Shape::Tables => format!("[[{}]]", table.form),
        _ => format!("[{}]", table.form),
    }
}

/// The anchor that Markdown renderers give a heading.
fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, '_' | ' '))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .flat_map(char::to_lowercase)
        .collect()
}

fn type_of(description: &Description, key: &Key) -> String {
    let word = |shape: &Shape| match shape {
        Shape::Names(_) => {
            let names = key.form.key(ANY_NAME);
            let value = description.keys.iter().find(|key| key.form == names);
            format!("table from names to {}", value.map(|key| words(&key.shape)).unwrap_or_default())
        }
        shape => words(shape),
    };
    key.shape.alternatives().iter().map(word).collect::<Vec<_>>().join(", or ")
}

fn words(shape: &Shape) -> String {
    match shape {
        Shape::Boolean => "`true` or `false`".to_owned(),
        Shape::Integer(0, usize::MAX) => "whole number".to_owned(),
        Shape::Integer(least, usize::MAX) => format!("whole number from {least}"),
        Shape::Integer(least, most) => format!("whole number from {least} to {most}"),
        Shape::Number(None) => "number".to_owned(),
        Shape::Number(Some(most)) => format!("number from 0 to {most}"),
        Shape::Text(name, _) => (*name).to_owned(),
        Shape::Secret => "secret text".to_owned(),
        Shape::Choice(choices) => {
            let choices: Vec<_> = choices.iter().map(|choice| format!("`{choice:?}`")).collect();
            choices.join(", ")
        }
        Shape::List(item) => format!("list of {}", plural(item)),
        Shape::Source(name, _) => (*name).to_owned(),
        Shape::Table | Shape::Tables | Shape::Names(_) => "table".to_owned(),
        Shape::AnyOf(shapes) => shapes.iter().map(words).collect::<Vec<_>>().join(", or "),
    }
}

/// The words for several values.
fn plural(shape: &Shape) -> String {
    match shape {
        Shape::List(item) => format!("lists of {}", plural(item)),
        Shape::Choice(_) => words(shape),
        Shape::AnyOf(shapes) => shapes.iter().map(plural).collect::<Vec<_>>().join(" or "),
        shape => format!("{}s", words(shape)),
    }
}

/// The default as TOML, which is JSON for values that are not tables.
fn default(key: &Key) -> Option<String> {
    key.default.as_ref().map(|default| format!("`{default}`"))
}

fn variable(description: &Description, key: &Key) -> String {
    let is_array = |form: &KeyPath| {
        let table = description.keys.iter().find(|key| key.form == *form);
        table.is_some_and(|table| matches!(table.shape, Shape::Tables))
    };
    if key.form.outwards().any(|form| is_array(&form)) || key.shape.has_inline_tables() {
        return "none".to_owned();
    }
    let form = if matches!(key.shape, Shape::Names(_)) { key.form.key(ANY_NAME) } else { key.form.clone() };
    let sources = key.shape.alternatives().iter().find_map(|shape| match shape {
        Shape::Source(_, forms) => Some(*forms),
        _ => None,
    });
    match sources {
        Some([first, others @ ..]) => {
            let others: String = others.iter().map(|key| format!(", `…__{}`", key.to_uppercase())).collect();
            format!("`{}`{others}", form.key(first).variable())
        }
        Some([]) | None => format!("`{}`", form.variable()),
    }
}
