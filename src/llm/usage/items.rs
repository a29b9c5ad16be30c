//! Output items of a response that are billed per use.

use super::calls::{ToolCalls, ToolKind};
use super::slots::ItemAt;

/// The billed items of one text. Unallocated if there is no item.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Items(Option<Box<Known>>);

#[derive(Debug, Default, PartialEq)]
struct Known {
    /// Finished items, by [`ItemAt`].
    calls: [ToolCalls; 3],
    /// The item that began last, and its place.
    item: Option<(ItemAt, Option<ToolKind>)>,
    /// Its action is not billed.
    is_free: bool,
    has_failed: bool,
}

impl Items {
    pub(super) fn begin(&mut self, at: ItemAt) {
        let known = self.0.get_or_insert_default();
        if let Some((earlier, _)) = known.item {
            known.calls[earlier as usize] = known.calls(earlier);
        }
        known.item = Some((at, None));
        (known.is_free, known.has_failed) = (false, false);
    }

    /// Sets the current item's status. An item that failed did nothing that could be billed.
    pub(super) fn status(&mut self, status: &[u8]) {
        if let Some(known) = &mut self.0 {
            known.has_failed = status == b"failed";
        }
    }

    /// Sets the current item's kind.
    pub(super) fn kind(&mut self, kind: Option<ToolKind>) {
        if let Some((_, known)) = self.0.as_mut().and_then(|known| known.item.as_mut()) {
            *known = kind;
        }
    }

    /// Sets the action of a web search. Only `search` is billed; opening a page and searching in it
    /// are not (platform.openai.com, web search).
    pub(super) fn action(&mut self, action: &[u8]) {
        if let Some(known) = &mut self.0 {
            known.is_free = matches!(action, b"open_page" | b"find_in_page" | b"find");
        }
    }

    pub(super) fn forget_action(&mut self) {
        if let Some(known) = &mut self.0 {
            known.is_free = false;
        }
    }

    /// Discards the items of a place, because another list or item replaces them.
    pub(super) fn forget(&mut self, at: ItemAt) {
        if let Some(known) = &mut self.0 {
            known.calls[at as usize] = ToolCalls::default();
            known.item = known.item.filter(|(earlier, _)| *earlier != at);
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn calls(&self, at: ItemAt) -> ToolCalls {
        self.0.as_ref().map_or_else(ToolCalls::default, |known| known.calls(at))
    }
}

impl Known {
    fn calls(&self, at: ItemAt) -> ToolCalls {
        let item = self.item.filter(|(here, _)| *here == at).and_then(|(_, kind)| kind);
        let item = item.filter(|_| !self.has_failed);
        let item = item.filter(|kind| !(self.is_free && *kind == ToolKind::WebSearch));
        let calls = self.calls[at as usize];
        item.map_or(calls, |kind| calls.plus(ToolCalls::of(kind, 1)))
    }
}
