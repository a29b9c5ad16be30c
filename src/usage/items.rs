//! The items of a response's output that are billed per use.

use super::calls::{ToolCalls, ToolKind};
use super::places::ItemAt;

/// The billed items of one text. Most have none, and pay for none.
#[derive(Debug, Default)]
pub(super) struct Items(Option<Box<Known>>);

/// What is known of items, where there is one.
#[derive(Debug, Default)]
struct Known {
    /// Those that are over, by [`ItemAt`].
    calls: [ToolCalls; 3],
    /// The one that was begun last, and where it is.
    item: Option<(ItemAt, Option<ToolKind>)>,
    /// It did something that is not billed.
    is_free: bool,
}

impl Items {
    /// Another item begins.
    pub(super) fn begin(&mut self, at: ItemAt) {
        let known = self.0.get_or_insert_default();
        if let Some((earlier, _)) = known.item {
            known.calls[earlier as usize] = known.calls(earlier);
        }
        known.item = Some((at, None));
        known.is_free = false;
    }

    /// What the item is.
    pub(super) fn kind(&mut self, kind: Option<ToolKind>) {
        if let Some((_, known)) = self.0.as_mut().and_then(|known| known.item.as_mut()) {
            *known = kind;
        }
    }

    /// Of the actions of a search of the web only `search` is billed, and not that a page is opened
    /// or looked through (platform.openai.com, web search).
    pub(super) fn action(&mut self, action: &[u8]) {
        if let Some(known) = &mut self.0 {
            known.is_free = matches!(action, b"open_page" | b"find_in_page" | b"find");
        }
    }

    /// Another action of the same item begins.
    pub(super) fn forget_action(&mut self) {
        if let Some(known) = &mut self.0 {
            known.is_free = false;
        }
    }

    /// Another list of the same items begins, or another item in their stead.
    pub(super) fn forget(&mut self, at: ItemAt) {
        if let Some(known) = &mut self.0 {
            known.calls[at as usize] = ToolCalls::default();
            known.item = known.item.filter(|(earlier, _)| *earlier != at);
        }
    }

    /// Whether there is no item at all.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The calls among the items there.
    pub(super) fn calls(&self, at: ItemAt) -> ToolCalls {
        self.0.as_ref().map_or_else(ToolCalls::default, |known| known.calls(at))
    }
}

impl Known {
    fn calls(&self, at: ItemAt) -> ToolCalls {
        let item = self.item.filter(|(here, _)| *here == at).and_then(|(_, kind)| kind);
        let item = item.filter(|kind| !(self.is_free && *kind == ToolKind::WebSearch));
        let calls = self.calls[at as usize];
        item.map_or(calls, |kind| calls.plus(ToolCalls::of(kind, 1)))
    }
}
