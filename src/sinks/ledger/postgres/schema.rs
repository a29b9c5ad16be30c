//! The tables, and the migrations of older databases.
//!
//! `streamgauge_ledger` has one row: the ledger's identity, its version, and the earliest version
//! that may still write to it. Version N is the result of the first N steps of [`MIGRATIONS`] on an
//! empty database; a released step never changes, and new steps are appended. As long as steps only
//! add nullable columns, a fleet can be updated one instance after the other: the database first,
//! then the programs.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::super::columns::{ATTEMPTS, COLUMNS, COUNT, Kind};
use super::super::error::LedgerError;
use super::connect::{Connection, STATEMENT, block_on, within};
use super::{Failure, partitions};
use crate::config::Postgres;

/// A change of tables holds this lock until the end of the transaction (`pg_advisory_xact_lock`),
/// so that programs that start together migrate once, one after the other. The number is `SGgl` in
/// ASCII, as in SQLite's files.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1397188460)";

/// The steps between versions, each with the earliest version that may write to the result.
///
/// The primary key must contain the column of the partitions, and it serves queries about a time.
/// It also makes `id` unique: `started_at` never changes, and no id is written with two times.
pub(super) const MIGRATIONS: &[(&str, i32)] = &[
    (
        r#"CREATE TABLE usage_records (
        instance text NOT NULL,
        started_at timestamptz NOT NULL,
        client text NOT NULL,
        upstream text,
        model text,
        usage_source text NOT NULL,
        input_tokens bigint,
        output_tokens bigint,
        total_tokens bigint,
        cached_input_tokens bigint,
        cache_write_input_tokens bigint,
        reasoning_tokens bigint,
        input_audio_tokens bigint,
        output_audio_tokens bigint,
        billed_seconds double precision,
        id uuid NOT NULL,
        "user" text,
        provider text,
        method text,
        endpoint text,
        model_requested text,
        stream boolean NOT NULL,
        status bigint,
        outcome text NOT NULL,
        events bigint,
        request_bytes bigint NOT NULL,
        response_bytes bigint NOT NULL,
        time_to_first_byte_ms double precision,
        time_to_first_token_ms double precision,
        duration_ms double precision NOT NULL,
        upstream_request_id text,
        error text,
        time_to_first_event_ms double precision,
        time_to_last_event_ms double precision,
        time_to_disconnect_ms double precision,
        PRIMARY KEY (started_at, id)
    ) PARTITION BY RANGE (started_at);
    CREATE TABLE usage_records_default PARTITION OF usage_records DEFAULT;
    CREATE INDEX usage_records_id ON usage_records (id);
    CREATE INDEX usage_records_client ON usage_records (client, started_at);
    CREATE INDEX usage_records_user ON usage_records ("user", started_at) WHERE "user" IS NOT NULL;
    CREATE INDEX usage_records_upstream ON usage_records (upstream, started_at);
    CREATE INDEX usage_records_model ON usage_records (model, started_at);"#,
        1,
    ),
    // `count`, and the columns that later versions fill (`columns::RESERVED`).
    (
        r#"ALTER TABLE usage_records
        ADD COLUMN "count" bigint,
        ADD COLUMN service_tier text,
        ADD COLUMN cache_write_1h_input_tokens bigint,
        ADD COLUMN tool_calls text,
        ADD COLUMN reported_cost text,
        ADD COLUMN attempts bigint,
        ADD COLUMN "group" text,
        ADD COLUMN time_waiting_ms double precision,
        ADD COLUMN key_id text,
        ADD COLUMN tags text,
        ADD COLUMN writer text;"#,
        1,
    ),
    // `attempts` as JSON. No version wrote the column that was reserved for it, and to rename it
    // changes no row.
    (
        "ALTER TABLE usage_records RENAME COLUMN attempts TO attempts_unused;
        ALTER TABLE usage_records ADD COLUMN attempts text;",
        1,
    ),
    // The stored keys of clients. `cut`: running requests with a revoked key are ended.
    (
        "CREATE TABLE streamgauge_keys (
        sha256 text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
        client text NOT NULL CHECK (client <> ''),
        created timestamptz,
        until timestamptz,
        cut boolean
    );",
        1,
    ),
];

/// The version that begins to have the table of stored keys.
const KEYS: i32 = 4;

/// Columns of [`COLUMNS`] with which a version begins to have those behind them too.
const SINCE: [(&str, i32); 2] = [(COUNT, 2), (ATTEMPTS, 3)];

/// Creates the row of [`LEDGER`], which describes the rest.
const LEDGER: &str = "CREATE TABLE streamgauge_ledger (
        id uuid NOT NULL,
        version integer NOT NULL,
        writable_from integer NOT NULL,
        one boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (one)
    );";

/// The result of [`migrate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version found. `None` if the database had no ledger.
    pub from: Option<i32>,
    /// The version now.
    pub to: i32,
    /// The months, such as `2026-11`, that got a partition.
    pub months: Vec<String>,
}

/// Creates the ledger in the database or migrates it, and creates the partitions of the coming
/// months. The migration is atomic, each partition is a step of its own, and repeating the call is
/// harmless.
///
/// # Errors
/// Fails if the server cannot be reached or refuses it, or if the database has such tables of
/// another program or of a newer version.
pub fn migrate(settings: &Postgres) -> Result<Migrated, LedgerError> {
    let work = async {
        let mut connection = Connection::open(settings).await?;
        within(STATEMENT * 10, bring_up_to_date(&mut connection.client, MIGRATIONS)).await
    };
    block_on(work).flatten().map_err(|failure| LedgerError::fleet(settings, failure))
}

pub(super) async fn bring_up_to_date(
    client: &mut Client,
    migrations: &[(&str, i32)],
) -> Result<Migrated, Failure> {
    let transaction = client.transaction().await?;
    lock(&transaction, "30s").await?;
    let known = i32::try_from(migrations.len()).unwrap_or(i32::MAX);
    let from = match read(&transaction).await? {
        Some(Version { version, writable_from, .. }) if version > known => {
            return Err(Failure::NewSchema(version, known.max(writable_from - 1)));
        }
        Some(Version { version, .. }) => Some(version),
        None => None,
    };
    if from.is_none() {
        if exists(&transaction, "usage_records").await? {
            return Err(Failure::Foreign("usage_records".to_owned()));
        }
        transaction.batch_execute(LEDGER).await?;
        let id = Uuid::now_v7();
        transaction
            .execute("INSERT INTO streamgauge_ledger (id, version, writable_from) VALUES ($1, 0, 0)", &[&id])
            .await?;
    }
    let first = usize::try_from(from.unwrap_or(0)).unwrap_or(0);
    for (step, writable_from) in &migrations[first..] {
        transaction.batch_execute(step).await?;
        transaction
            .execute(
                "UPDATE streamgauge_ledger SET version = version + 1, writable_from = $1",
                &[writable_from],
            )
            .await?;
    }
    transaction.commit().await?;
    let months = partitions::prepare(client).await?;
    Ok(Migrated { from, to: known, months: months.iter().map(ToString::to_string).collect() })
}

/// The identity of the database's ledger, which must be writable.
pub(super) async fn find(client: &Client) -> Result<Uuid, Failure> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    match find_any(client).await? {
        Version { version, .. } if version < known => Err(Failure::OldSchema(version, known)),
        Version { version, writable_from, .. } if writable_from > known => {
            Err(Failure::NewSchema(version, known))
        }
        Version { id, .. } => Ok(id),
    }
}

/// The columns of records in the database. An earlier version can be read before it is migrated.
pub(super) async fn readable(client: &Client) -> Result<&'static [(&'static str, Kind)], Failure> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    let Version { version, writable_from, .. } = find_any(client).await?;
    if writable_from > known {
        return Err(Failure::NewSchema(version, known));
    }
    let is_field = |name: &str| SINCE.iter().all(|(first, since)| name != *first || version >= *since);
    let fields = COLUMNS.iter().take_while(|(name, _)| is_field(name)).count();
    Ok(&COLUMNS[..fields])
}

/// Fails unless the database has the table of stored keys, in a form that this program knows.
pub(super) async fn check_keys(client: &Client) -> Result<(), Failure> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    match find_any(client).await? {
        Version { version, .. } if version < KEYS => Err(Failure::OldSchema(version, KEYS)),
        Version { version, writable_from, .. } if writable_from > known => {
            Err(Failure::NewSchema(version, known))
        }
        Version { .. } => Ok(()),
    }
}

async fn find_any(client: &Client) -> Result<Version, Failure> {
    let row = client.query_typed_opt("SELECT id, version, writable_from FROM streamgauge_ledger", &[]).await;
    let row = match row.map_err(Failure::from) {
        Err(failure) if failure.is(&SqlState::UNDEFINED_TABLE) => return Err(Failure::NoSchema),
        row => row?.ok_or(Failure::NoSchema)?,
    };
    Ok(Version { id: row.get(0), version: row.get(1), writable_from: row.get(2) })
}

/// Takes the lock for changes of tables, for the rest of the transaction. The transaction waits at
/// most `patience` for any lock, since all other users of a table wait behind it.
pub(super) async fn lock(transaction: &Transaction<'_>, patience: &str) -> Result<(), Failure> {
    transaction.batch_execute(&format!("SET LOCAL lock_timeout = '{patience}'; {LOCK}")).await?;
    Ok(())
}

/// Returns true if a table of this name exists.
pub(super) async fn exists(transaction: &Transaction<'_>, table: &str) -> Result<bool, Failure> {
    let row = transaction.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?;
    Ok(row.get(0))
}

struct Version {
    id: Uuid,
    version: i32,
    writable_from: i32,
}

async fn read(transaction: &Transaction<'_>) -> Result<Option<Version>, Failure> {
    if !exists(transaction, "streamgauge_ledger").await? {
        return Ok(None);
    }
    let row = transaction.query_opt("SELECT id, version, writable_from FROM streamgauge_ledger", &[]).await;
    let row = match row.map_err(Failure::from) {
        Err(failure) if failure.is(&SqlState::UNDEFINED_COLUMN) => {
            return Err(Failure::Foreign("streamgauge_ledger".to_owned()));
        }
        row => row?.ok_or_else(|| Failure::Foreign("streamgauge_ledger".to_owned()))?,
    };
    Ok(Some(Version { id: row.get(0), version: row.get(1), writable_from: row.get(2) }))
}
