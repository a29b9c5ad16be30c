//! The file of imported prices, and the part of a configuration that importing prices needs.

use std::fs::{self, File as Folder};
use std::io;
use std::path::{Path, PathBuf};

use super::file::{self, File};
use super::files::Files;
use super::key_file::{beside, folder, write};
use super::layers::Layers;
use super::mistakes::{Mistake, Mistakes};
use super::reader::Reader;
use super::settings::LedgerSettings;
use super::upstreams::{Place, place};
use super::{Sources, Which, ledger_section, prices};
use crate::llm::price::Price;

/// Prices with warnings.
pub(super) type LoadedPrices = Result<(Vec<Price>, Vec<String>), Mistakes>;

/// Reads the file, which may be missing, and adds it to `files`. `upstreams` are the names of the
/// upstreams.
///
/// # Errors
/// Fails with all mistakes in the file.
pub(super) fn load(path: &Path, upstreams: &[String], files: &mut Files) -> LoadedPrices {
    let wrong = |reason| Mistakes::one(Mistake { place: path.display().to_string(), reason });
    let text = files.read_prices(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let file = File::parse(Some(path.to_owned()), &text.unwrap_or_default()).map_err(Mistakes::one)?;
    let (layers, env) = (Layers::of(file), Default::default());
    let reader = Reader::new(&layers, &env);
    let prices = reader.read(|root| prices::list(root, upstreams));
    let (mut prices, warnings) = reader.finish(prices, Vec::new())?;
    prices.iter_mut().for_each(|price| price.is_imported = true);
    Ok((prices, warnings))
}

/// The part of a configuration that importing prices needs.
#[derive(Clone, Debug)]
pub struct PricePlace {
    pub ledger: LedgerSettings,
    /// The prices in the file.
    pub stored: Vec<Price>,
    /// The upstreams whose provider is known.
    pub upstreams: Vec<Place>,
}

/// Reads `[ledger]`, the file of prices, and the places of the upstreams, from the same sources as
/// [`load`](super::load). Secrets may be missing.
///
/// # Errors
/// Fails if a file cannot be read, or with the mistakes in these parts.
pub fn load_price_place(sources: &Sources, which: Which) -> Result<PricePlace, Mistakes> {
    let file = file::find(sources.file.as_deref(), &sources.env, &file::CANDIDATES).map_err(Mistakes::one)?;
    let (layers, _) = Layers::merge(file, &sources.env, &sources.overrides);
    let reader = Reader::new(&layers, &sources.env);
    let place = reader.read_part(|root| {
        let names = root.keys("upstreams");
        let ledger = ledger_section(root, which)?;
        let stored = prices::stored(root, ledger.prices_file.as_deref(), &names)?;
        let upstreams = names.iter().filter_map(|name| place(root, name)).collect();
        Ok(PricePlace { ledger, stored, upstreams })
    });
    reader.finish(place, Vec::new()).map(|(place, _)| place)
}

/// Replaces the file as a whole: a reader sees the prices before or after.
///
/// # Errors
/// Fails if the file, or one beside it, cannot be written.
pub fn write_prices(path: &Path, text: &str) -> io::Result<()> {
    // A symlink stays, and the file that it leads to is replaced.
    let path: PathBuf = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => path.to_owned(),
        Err(error) => return Err(error),
    };
    let parent = Folder::open(folder(&path))?;
    let new = beside(&path, ".new");
    let written = write(&new, &path, text).and_then(|()| fs::rename(&new, &path));
    written.inspect_err(|_| {
        // The file may not exist.
        let _ = fs::remove_file(&new);
    })?;
    // Not all filesystems can do it.
    let _ = parent.sync_all();
    Ok(())
}
