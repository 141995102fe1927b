//! Pages of a standby may be marked as visible to all before its snapshots show their rows, so they are not read,
//! even if the standby is promoted while its snapshot lives.

use serde_json::json;

use super::{can_read_pages, pages, superuser, vacuum};
use crate::support::{Database, PATIENCE, Postgres, Site, Slow, eventually};

#[test]
fn a_snapshot_of_a_standby_reads_no_pages_even_after_its_promotion() {
    let primary = Postgres::start(&[("autovacuum", "off")]);
    let db = Database::on(primary.services());
    if !can_read_pages(&db) {
        return;
    }
    db.execute(
        "CREATE EXTENSION pageinspect;
         CREATE TABLE plain WITH (fillfactor = 20) AS SELECT i AS id, repeat(md5(i::text), 3) AS t
            FROM generate_series(1, 20000) i",
    );
    vacuum(&db, "plain");
    let standby = primary.standby(&[]);
    let slow = Slow::of(Site::new(db), standby.port).at(400_000);
    let site = &slow.site;
    let mut config = superuser(site);
    config["sources"]["warehouse"]["dsn"] =
        json!(format!("postgres://postgres@127.0.0.1:{}/{}", slow.proxy.port, site.db.name));
    let check = site.run(&["check", "--config", &site.write("adu", &config)]);
    let checked = crate::support::said(&check);
    assert!(checked.contains("no table can be read by pages: the server is a standby"), "{checked}");

    let daemon = site.daemon_with(&config);
    let table = pages("public.plain");
    let job = site.request(json!({"tables": [table]}));
    eventually("chunks are read", PATIENCE, || (daemon.chunks_in_flight() > 0).then_some(()));
    assert_eq!(standby.number("postgres", "SELECT pg_promote()::int"), 1);
    site.assert_runs(&job, "the standby was promoted while the job ran");
    slow.proxy.free();
    site.completed(&job);
    let of = |job: &str| site.exports.archive(job)["tables"][0].clone();
    let first = of(&job);
    assert!(first["pages"].is_null() && first["epoch"] == 1, "{first}");
    let reason = first["strategy_reason"].to_string();
    assert!(reason.contains("no snapshot that was taken on a primary"), "{reason}");

    // A snapshot that is taken after the promotion is one of a primary.
    let promoted = site.export(json!({"tables": [table]}));
    let second = of(promoted.job());
    assert!(second["pages"]["read"].as_u64() > Some(1000), "{second}");
    for directory in ["public_plain", "public_plain_v2"] {
        site.assert_equal(&[("SELECT * FROM plain", directory)]);
    }
    site.assert_sound(&[job.as_str(), promoted.job()], [daemon]);
}
