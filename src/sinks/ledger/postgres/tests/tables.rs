//! The versions of the tables, and a partition for each month.

use super::*;

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn empty_database_becomes_ledger_once_under_concurrency() {
    let server = Server::start();
    let settings = settings(&server.url(), "");
    let migrated: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| migrate(&settings).unwrap())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(migrated.iter().filter(|migrated| migrated.from.is_none()).count(), 1);
    assert!(migrated.iter().all(|migrated| migrated.to == MIGRATIONS.len() as i32));
    let months: usize = migrated.iter().map(|migrated| migrated.months.len()).sum();
    assert_eq!(months, 4, "this month's and three more, each once");
    assert_eq!(server.number("SELECT count(*) FROM streamgauge_ledger"), 1);
    let again = migrate(&settings).unwrap();
    assert_eq!((again.from, again.months), (Some(again.to), Vec::new()));
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn tables_have_columns_of_records() {
    let (server, _) = migrated();
    let columns = server.sql(
        "SELECT string_agg(column_name, ',' ORDER BY ordinal_position) FROM information_schema.columns
         WHERE table_name = 'usage_records'",
    );
    let mut columns: Vec<_> = columns.split(',').collect();
    let known = [crate::sinks::ledger::columns::COLUMNS, crate::sinks::ledger::columns::RESERVED].concat();
    let mut expected: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    expected.push("instance");
    columns.sort_unstable();
    expected.sort_unstable();
    assert_eq!(columns, expected);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn earlier_version_keeps_rows_and_later_one_is_written() {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(10));
    shipping.close();
    assert_eq!(count(&server), 10);
    let later = |writable_from| {
        let mut later = MIGRATIONS.to_vec();
        later.push(("ALTER TABLE usage_records ADD COLUMN region text DEFAULT 'eu'", writable_from));
        later
    };
    let known = MIGRATIONS.len() as i32;
    with(&settings, async |client| {
        let done = bring_up_to_date(client, &later(1)).await.unwrap();
        assert_eq!((done.from, done.to), (Some(known), known + 1));
        schema::find(client).await.unwrap();
        assert!(matches!(bring_up_to_date(client, MIGRATIONS).await, Err(Failure::NewSchema(..))));
    });
    assert_eq!(server.number("SELECT count(*) FROM usage_records WHERE region = 'eu'"), 10);
    // The earlier program continues to ship.
    shipping.open(&settings);
    shipping.write(&batch(3));
    shipping.close();
    assert_eq!(count(&server), 13);
    let breaking = ("SELECT 1", known + 2);
    with(&settings, async |client| {
        let mut later = later(1);
        later.push(breaking);
        bring_up_to_date(client, &later).await.unwrap();
        assert!(
            matches!(schema::find(client).await, Err(Failure::NewSchema(found, _)) if found == known + 2)
        );
    });
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn failed_step_leaves_nothing_behind() {
    let server = Server::start();
    let settings = settings(&server.url(), "");
    let broken = [MIGRATIONS[0], ("CREATE TABLE extra (a int); CREATE TABLE usage_records (a int)", 1)];
    with(&settings, async |client| {
        assert!(bring_up_to_date(client, &broken).await.is_err());
        assert!(matches!(schema::find(client).await, Err(Failure::NoSchema)));
    });
    assert_eq!(server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn tables_of_another_program_are_left_alone() {
    let server = Server::start();
    server.sql("CREATE TABLE usage_records (a int)");
    let error = migrate(&settings(&server.url(), "")).unwrap_err().to_string();
    assert!(error.contains("a table usage_records that does not belong to a ledger"), "{error}");
    server.sql("DROP TABLE usage_records; CREATE TABLE streamgauge_ledger (a int)");
    let error = migrate(&settings(&server.url(), "")).unwrap_err().to_string();
    assert!(error.contains("a table streamgauge_ledger that does not belong to a ledger"), "{error}");
    // The server has room for a second ledger.
    server.sql("CREATE SCHEMA gauge");
    let beside = settings(&format!("{}?options=-c%20search_path%3Dgauge", server.url()), "");
    migrate(&beside).unwrap();
    let mut shipping = Ships::begin(&beside);
    shipping.write(&batch(3));
    shipping.close();
    assert_eq!(server.number("SELECT count(*) FROM gauge.usage_records"), 3);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn months_have_their_partitions_and_old_ones_go() {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(6000));
    shipping.close();
    // 6,000 records 977 seconds apart, from the end of May 2026 on.
    let of = |table: &str| server.number(&format!("SELECT count(*) FROM {table}"));
    assert_eq!(of("usage_records_default"), 0);
    let months = of("usage_records_2026_05") + of("usage_records_2026_06") + of("usage_records_2026_07");
    assert_eq!(months + of("usage_records_2026_08"), 6000);
    let may = i64::try_from(of("usage_records_2026_05")).unwrap();
    let june = of("usage_records_2026_06");
    assert!(june > 2000);
    with(&settings, async |client| {
        let now = "2026-07-15T00:00:00Z".parse().unwrap();
        let dropped = partitions::drop_old(client, Duration::from_secs(20 * 86_400), now).await.unwrap();
        let dropped = dropped.unwrap();
        assert_eq!((dropped.month.to_string().as_str(), dropped.records), ("2026-05", may));
        assert!(partitions::drop_old(client, Duration::from_secs(20 * 86_400), now).await.unwrap().is_none());
    });
    assert_eq!(of("usage_records_2026_06"), june);
    assert_eq!(server.number("SELECT count(*) FROM usage_records WHERE started_at < '2026-06-01Z'"), 0);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn clock_ahead_drops_no_month_that_the_newest_record_keeps() {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(6000));
    shipping.close();
    let ahead = "2126-01-01T00:00:00Z".parse().unwrap();
    let age = Duration::from_secs(100 * 86_400);
    with(&settings, async |client| {
        // By the newest record's time, in August, the limit is in April.
        assert_eq!(partitions::drop_old(client, age, ahead).await.unwrap(), None);
    });
    assert_eq!(count(&server), 6000);
}

#[test]
#[cfg_attr(not(feature = "slow"), ignore = "slow")]
fn rows_without_partition_are_kept_and_move_into_theirs() {
    let (server, settings) = migrated();
    let mut shipping = Ships::begin(&settings);
    shipping.write(&batch(100));
    shipping.close();
    server.sql(
        "BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM usage_records; DROP TABLE usage_records_2026_05;
         INSERT INTO usage_records SELECT * FROM kept WHERE started_at < '2026-06-01Z'; COMMIT",
    );
    let strays = server.number("SELECT count(*) FROM usage_records_default");
    assert!(strays > 0);
    let all = count(&server);
    let month = Month::of("2026-05-31T00:00:00Z".parse().unwrap());
    with(&settings, async |client| {
        assert!(!partitions::make(client, month, Strays::Leave).await.unwrap());
    });
    assert_eq!(server.number("SELECT count(*) FROM usage_records_default"), strays);
    assert_eq!(migrate(&settings).unwrap().months, ["2026-05"]);
    assert_eq!(server.number("SELECT count(*) FROM usage_records_2026_05"), strays);
    assert_eq!((server.number("SELECT count(*) FROM usage_records_default"), count(&server)), (0, all));
}
