//! Pages for people, rendered as HTML and SVG that need no script; the script only updates the
//! dashboard.
//!
//! maud renders the markup and escapes its input. The charts are hand-written SVG in the same
//! templates: chart crates (plotters, charming) write sizes, colours and fonts into the picture, so
//! that it fits neither a dark scheme nor a narrow screen, and name no parts for screen readers.
//! Ours are shapes in percent of their width, coloured by the style sheet, with their numbers in a
//! table beside them.
//!
//! | module | what it is |
//! |---|---|
//! | `overviews` | reads what a page shows, and keeps it for a moment |
//! | `dashboard` | the page as a whole |
//! | `bar`, `footer` | time and filters; where the numbers come from, and models without a price |
//! | `tiles` | the sums at a glance |
//! | `chart`, `split`, `plot`, `scale` | what the chart shows; its parts; the picture; its axis |
//! | `table`, `table_rows` | sums by user, model, client and so on |
//! | `records`, `record`, `record_cost` | records that were written; the page and the cost of one |
//! | `limits` | limits and budgets |
//! | `keys` | stored keys of clients, with forms |
//! | `running`, `members` | streams that run; members of groups |
//! | `numbers`, `names` | numbers, times and names as people read them |

mod bar;
mod chart;
mod dashboard;
mod footer;
pub(super) mod keys;
mod limits;
pub(super) mod members;
mod names;
mod numbers;
mod overviews;
mod plot;
pub(super) mod record;
mod record_cost;
mod records;
pub(super) mod running;
mod scale;
mod split;
mod table;
mod table_rows;
mod tiles;

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::response::Response;
use maud::{DOCTYPE, Markup, html};

pub(super) use limits::LimitLine;
pub use limits::ShownLimits;
pub(super) use overviews::{Overviews, teams};

use super::respond;

/// The path of the assets.
pub(super) const ASSETS: &str = "/assets/";

struct Asset {
    path: String,
    kind: &'static str,
    body: &'static str,
}

/// Named by a part of its digest, so that browsers never use an old version.
static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("pages/style.css")));
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("script", "js", "text/javascript; charset=utf-8", include_str!("pages/script.js"))
});
static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("pages/icon.svg")));

impl Asset {
    fn new(name: &str, suffix: &str, kind: &'static str, body: &'static str) -> Self {
        let digest = digest::digest(&digest::SHA256, body.as_bytes());
        let tag: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { path: format!("{ASSETS}{name}-{tag}.{suffix}"), kind, body }
    }
}

/// The asset at a path.
pub(super) fn asset(path: &str) -> Option<Response> {
    let assets = [&*STYLE, &*SCRIPT, &*ICON];
    let asset = assets.into_iter().find(|asset| asset.path == path)?;
    Some(respond::asset(asset.kind, asset.body))
}

/// The number of path segments between the root and a page. Links are relative, since another
/// server may publish the pages below a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Depth(usize);

impl Depth {
    const ROOT: Self = Self(0);

    /// The depth of a requested path.
    pub(super) fn of(path: &str) -> Self {
        Self(path.matches('/').count().saturating_sub(1))
    }

    /// A link to a path of the root, which begins with a slash.
    fn link(self, path: &str) -> String {
        let up = if self.0 == 0 { "./".to_owned() } else { "../".repeat(self.0) };
        up + path.trim_start_matches('/')
    }
}

fn document(depth: Depth, title: &str, with_script: bool, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" type="image/svg+xml" href=(depth.link(&ICON.path));
                link rel="stylesheet" href=(depth.link(&STYLE.path));
                @if with_script { script src=(depth.link(&SCRIPT.path)) defer {} }
            }
            body { (body) }
        }
    }
}

/// The logo: a gauge in a stream.
fn brand() -> Markup {
    html! {
        span.brand {
            svg.mark viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false" {
                rect.mark-ground x="1" y="1" width="30" height="30" rx="8" {}
                path.mark-wave d="M5 21c3.7 0 3.7-3 7.3-3s3.7 3 7.4 3 3.6-3 7.3-3" {}
                path.mark-wave d="M5 26c3.7 0 3.7-3 7.3-3s3.7 3 7.4 3 3.6-3 7.3-3" {}
                path.mark-gauge d="M11 6v8M11 6h5M11 10h3.5M11 14h5" {}
            }
            span { "streamgauge" }
        }
    }
}

/// The login form, or the reason for its absence. `next` is the page after the login.
pub(super) fn login(depth: Depth, next: Option<&str>, wrong: Option<&str>, has_login: bool) -> Markup {
    let body = html! {
        main.login {
            (brand())
            h1 { "Sign in" }
            @if has_login {
                @if let Some(wrong) = wrong { p.alert role="alert" { (wrong) } }
                form method="post" action=(depth.link("/login")) {
                    @if let Some(next) = next { input type="hidden" name="next" value=(next); }
                    label for="token" { "Admin token" }
                    input #token type="password" name="token" required autocomplete="current-password" autofocus
                        aria-describedby="hint";
                    p.hint #hint {
                        "The secret that " code { "admin.token" } " or " code { "admin.read_token" }
                        " of the configuration names."
                    }
                    button type="submit" { "Sign in" }
                }
            } @else {
                p { "These pages need no token. " a href=(depth.link("/")) { "To the dashboard" } }
            }
        }
    };
    document(depth, "Sign in · streamgauge", false, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_of_a_page_exist_under_the_names_it_has() {
        let page = document(Depth::ROOT, "x", true, &html! {}).into_string();
        for asset in [&*STYLE, &*SCRIPT, &*ICON] {
            assert!(page.contains(&format!("\".{}\"", asset.path)), "{}", asset.path);
            assert!(super::asset(&asset.path).is_some());
        }
        assert!(super::asset("/assets/style.css").is_none());
    }

    #[test]
    fn login_page_escapes_its_input() {
        let page = login(Depth::ROOT, Some("/?user=\"><script>"), Some("<b>"), true).into_string();
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    }

    #[test]
    fn links_lead_to_the_root_from_any_depth() {
        for (path, to, link) in [
            ("/", "/login", "./login"),
            ("/usage", "/", "./"),
            ("/usage/0192", "/login", "../login"),
            ("/usage/", "/assets/a.css", "../assets/a.css"),
        ] {
            assert_eq!(Depth::of(path).link(to), link, "{path}");
        }
    }
}
