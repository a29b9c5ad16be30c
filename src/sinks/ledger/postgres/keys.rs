//! The keys of clients in the fleet's database: the table `streamgauge_keys`, which has their
//! digests only.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};

use super::connect::{CONNECT, Connection, STATEMENT, runtime, within};
use super::rows::Micros;
use super::{Failure, address, schema};
use crate::config::{KeyChange, KeyStore, Postgres, StoreError, StoredKey};
use crate::gate::KeyDigest;

/// The largest number of keys. The table is read as a whole.
const MOST_KEYS: usize = 100_000;

/// The longest time for a reading. A silent server must not hold up a page for longer.
const READING: Duration = Duration::from_secs(5);

/// Commands at the same time change the keys one after the other; readers go on.
const LOCK: &str = "SET LOCAL lock_timeout = '10s'; LOCK TABLE streamgauge_keys IN SHARE ROW EXCLUSIVE MODE";

const SELECT: &str =
    "SELECT client, sha256, created, until, cut FROM streamgauge_keys ORDER BY created, sha256";

/// The table. A connection is kept between readings.
#[derive(Debug)]
pub struct KeyTable {
    settings: Postgres,
    kept: Mutex<Option<Kept>>,
}

/// A connection with its runtime, which drives it while the table is read.
struct Kept {
    connection: Connection,
    /// `None` while it is dropped.
    runtime: Option<Runtime>,
}

impl KeyTable {
    /// The table in this database, which is not connected yet.
    pub fn shared(settings: &Postgres) -> Arc<dyn KeyStore> {
        Arc::new(Self { settings: settings.clone(), kept: Mutex::new(None) })
    }

    fn read(&self) -> Result<Vec<StoredKey>, Failure> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // The server may have closed a connection since the last reading.
        if let Some(Ok(keys)) = kept.take().map(|open| open.read(&mut kept, &self.name())) {
            return Ok(keys);
        }
        Kept::open(&self.settings)?.read(&mut kept, &self.name())
    }
}

/// Calls block, and must not be made on a thread of tokio that runs tasks.
impl KeyStore for KeyTable {
    fn name(&self) -> String {
        format!("streamgauge_keys in {}", address(&self.settings))
    }

    fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.read().map_err(|failure| StoreError::Table(self.name(), failure.to_string()))
    }

    fn apply(&self, change: &mut KeyChange<'_>) -> Result<(), StoreError> {
        let failed = |failure: Failure| StoreError::Table(self.name(), failure.to_string());
        let mut kept = Kept::open(&self.settings).map_err(failed)?;
        let changed = kept.run(async |client| {
            let transaction = client.transaction().await?;
            transaction.batch_execute(LOCK).await?;
            let before = decoded(transaction.query_typed(SELECT, &[]).await?, &self.name())?;
            let mut after = before.clone();
            if let Err(refused) = change(&mut after) {
                return Ok(Err(refused));
            }
            write(&transaction, &before, &after).await?;
            transaction.commit().await?;
            Ok(Ok(()))
        });
        changed.map_err(failed)?
    }
}

/// Writes the difference.
async fn write(
    transaction: &Transaction<'_>,
    before: &[StoredKey],
    after: &[StoredKey],
) -> Result<(), Failure> {
    for gone in before.iter().filter(|key| after.iter().all(|kept| kept.digest != key.digest)) {
        let digest = gone.digest.to_hex();
        let delete = "DELETE FROM streamgauge_keys WHERE sha256 = $1";
        transaction.execute_typed(delete, &[(&digest, Type::TEXT)]).await?;
    }
    for key in after.iter().filter(|key| !before.contains(key)) {
        let (digest, created, until) = (key.digest.to_hex(), micros(key.created), micros(key.until));
        let upsert =
            "INSERT INTO streamgauge_keys (sha256, client, created, until, cut) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (sha256) DO UPDATE SET client = $2, created = $3, until = $4, cut = $5";
        transaction
            .execute_typed(
                upsert,
                &[
                    (&digest, Type::TEXT),
                    (&key.client, Type::TEXT),
                    (&created, Type::TIMESTAMPTZ),
                    (&until, Type::TIMESTAMPTZ),
                    (&key.cut, Type::BOOL),
                ],
            )
            .await?;
    }
    Ok(())
}

fn micros(at: Option<Timestamp>) -> Option<Micros> {
    at.map(|at| Micros(at.as_microsecond()))
}

impl Kept {
    /// Connects, and checks that the database has the table.
    fn open(settings: &Postgres) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let work = async {
            let connection = Connection::open(settings).await?;
            schema::check_keys(&connection.client).await?;
            Ok(connection)
        };
        match runtime.block_on(within(CONNECT, work)) {
            Ok(connection) => Ok(Self { connection, runtime: Some(runtime) }),
            Err(failure) => {
                runtime.shutdown_background();
                Err(failure)
            }
        }
    }

    /// Does `work` on the connection.
    fn run<T>(&mut self, work: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>) -> Result<T, Failure> {
        let runtime = self.runtime.as_ref().expect("it is there until the drop");
        runtime.block_on(within(STATEMENT, work(&mut self.connection.client)))
    }

    /// Reads the table, and keeps the connection in `place` if that succeeds.
    fn read(mut self, place: &mut Option<Self>, name: &str) -> Result<Vec<StoredKey>, Failure> {
        let keys = self.run(async |client| within(READING, read(client, name)).await)?;
        *place = Some(self);
        Ok(keys)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Drop for Kept {
    /// Waits for no lookup, and is allowed on any thread.
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

async fn read(client: &Client, name: &str) -> Result<Vec<StoredKey>, Failure> {
    let bounded = format!("{SELECT} LIMIT {}", MOST_KEYS + 1);
    let rows = client.query_typed(&bounded, &[]).await?;
    if rows.len() > MOST_KEYS {
        return Err(Failure::TooManyKeys(MOST_KEYS));
    }
    decoded(rows, name)
}

/// The keys of these rows. The table's own check holds for the digests.
fn decoded(rows: Vec<Row>, name: &str) -> Result<Vec<StoredKey>, Failure> {
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        let digest: &str = row.try_get(1)?;
        let Some(digest) = KeyDigest::parse(digest) else { continue };
        keys.push(StoredKey {
            client: row.try_get(0)?,
            digest,
            created: time(row.try_get(2)?),
            until: end(row.try_get(3)?),
            cut: row.try_get::<_, Option<bool>>(4)?.unwrap_or(false),
            place: name.to_owned(),
        });
    }
    Ok(keys)
}

/// A time that jiff does not have is none.
fn time(at: Option<Micros>) -> Option<Timestamp> {
    at.and_then(|Micros(at)| Timestamp::from_microsecond(at).ok())
}

/// `infinity` is no end, and `-infinity` is over.
fn end(at: Option<Micros>) -> Option<Timestamp> {
    time(at).or_else(|| at.filter(|Micros(at)| *at < 0).map(|_| Timestamp::MIN))
}
