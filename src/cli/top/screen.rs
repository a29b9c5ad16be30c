//! The terminal: its alternate screen in raw mode, and what was there before at the end, also after
//! a panic.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{Hide, MoveTo, MoveToColumn, Show};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};
use rustix::process::{Signal, getpid, kill_process};

use super::cells::{Cell, Line, Tone};

/// The size of a terminal that does not know its own.
const SIZE: (usize, usize) = (80, 24);

/// True while the terminal is in our state.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The width of the terminal at stdout. `None` if there is none.
pub(super) fn width() -> Option<usize> {
    io::stdout().is_terminal().then(|| size().0)
}

/// Columns and lines.
pub(super) fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or(SIZE, |size| (size.ws_col.into(), size.ws_row.into()))
}

/// The terminal in our state, until the drop.
pub(super) struct Screen {
    out: BufWriter<Stdout>,
    has_color: bool,
    /// The lines on it.
    shown: Vec<Line>,
}

impl Screen {
    /// # Errors
    /// Fails if the terminal cannot be set or written.
    pub(super) fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        let has_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut screen = Self { out: BufWriter::new(io::stdout()), has_color, shown: Vec::new() };
        screen.take()?;
        Ok(screen)
    }

    fn take(&mut self) -> io::Result<()> {
        IS_TAKEN.store(true, Ordering::Relaxed);
        // Without raw mode, keys need Enter, and that is all.
        let _ = enable_raw_mode();
        self.shown.clear();
        execute!(self.out, EnterAlternateScreen, Hide, DisableLineWrap, Clear(ClearType::All))
    }

    /// Draws the lines that have changed.
    ///
    /// # Errors
    /// Fails if the terminal cannot be written: it is gone.
    pub(super) fn draw(&mut self, lines: Vec<Line>) -> io::Result<()> {
        queue!(self.out, BeginSynchronizedUpdate)?;
        for (row, line) in lines.iter().enumerate() {
            if self.shown.get(row) != Some(line) {
                let row = u16::try_from(row).unwrap_or(u16::MAX);
                queue!(self.out, MoveTo(0, row), Clear(ClearType::CurrentLine))?;
                line.cells().iter().try_for_each(|cell| self.draw_cell(cell))?;
            }
        }
        queue!(self.out, EndSynchronizedUpdate)?;
        self.out.flush()?;
        self.shown = lines;
        Ok(())
    }

    fn draw_cell(&mut self, cell: &Cell) -> io::Result<()> {
        queue!(self.out, MoveToColumn(u16::try_from(cell.column).unwrap_or(u16::MAX)))?;
        let (attribute, color) = match cell.tone {
            Tone::Plain => (None, None),
            Tone::Strong => (Some(Attribute::Bold), None),
            Tone::Faint => (Some(Attribute::Dim), None),
            Tone::Near => (Some(Attribute::Bold), Some(Color::DarkYellow)),
            Tone::Bad => (Some(Attribute::Bold), Some(Color::DarkRed)),
        };
        if let Some(color) = color.filter(|_| self.has_color) {
            queue!(self.out, SetForegroundColor(color))?;
        }
        if let Some(attribute) = attribute {
            queue!(self.out, SetAttribute(attribute))?;
        }
        queue!(self.out, Print(&cell.text))?;
        match attribute {
            Some(_) => queue!(self.out, SetAttribute(Attribute::Reset)),
            None => Ok(()),
        }
    }

    /// Forgets what is on the screen, so that everything is drawn again.
    ///
    /// # Errors
    /// Fails if the terminal cannot be written.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.shown.clear();
        queue!(self.out, Clear(ClearType::All))
    }

    /// Gives the terminal back to the shell until it continues this process.
    ///
    /// # Errors
    /// Fails if the terminal cannot be set or written.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        restore();
        kill_process(getpid(), Signal::TSTP)?;
        self.take()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Brings the terminal into its state before, once. Errors have no remedy: it may be gone.
fn restore() {
    if IS_TAKEN.swap(false, Ordering::Relaxed) {
        let _ = execute!(io::stdout(), ResetColor, EnableLineWrap, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
