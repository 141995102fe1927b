//! Messages with properties, headers and bodies that a publisher may write but the library refuses. None of
//! them stops a daemon, in whichever queue it arrives.

use std::time::{Duration, Instant};

use lapin::BasicProperties;
use serde_json::json;

use crate::support::amqp::{TEXTS, field, long, nested, short};
use crate::support::packed::{gzip, zlib};
use crate::support::raw::publish_raw;
use crate::support::{Daemon, Database, PATIENCE, Services, Site, eventually};

/// Name, flags and values of the properties, and the text of the rejection.
type Case = (&'static str, u16, Vec<u8>, &'static str);

fn headers(name: &'static str, table: &[u8], says: &'static str) -> Case {
    (name, 1 << 13, long(table), says)
}

fn cases() -> Vec<Case> {
    let bad = [short(b"caf\xe9"), vec![b'V']].concat();
    let full = 131_072 - 8 - 14 - 4 - 2 - 1 - 4;
    let mut cases: Vec<Case> =
        TEXTS.iter().map(|(bit, name)| (*name, 1 << bit, short(b"\xe9"), *name)).collect();
    cases.extend([
        headers("name of a header", &bad, "headers"),
        headers("name in a table", &field(b'F', &bad), "headers"),
        headers("name in a table of an array", &field(b'A', &[&[b'F'][..], &long(&bad)].concat()), "headers"),
        // The library cannot read these headers, but nobody needs them, so these are good requests.
        headers("deep tables", &nested(20_000, true), ""),
        headers("deep arrays", &nested(25_000, false), ""),
        headers(
            "a header frame that has no room for what the broker adds",
            &field(b'S', &vec![b'x'; full]),
            "",
        ),
        ("a time before 1970", 1 << 6, vec![0xFF; 8], ""),
        ("unknown flags", 0b10, vec![], ""),
        (
            "a reply_to that the broker cannot decode",
            1 << 9,
            short(b"amq.rabbitmq.reply-to.g2gCYQFhAQ==.x"),
            "",
        ),
    ]);
    cases
}

#[track_caller]
fn assert_ready(daemons: &[Daemon], after: &str) {
    for daemon in daemons {
        let (status, body) = daemon.get("/readyz").expect("it answers");
        assert_eq!(status, 200, "{} after {after}: {body}", daemon.name);
    }
}

#[test]
fn no_property_of_a_message_stops_a_fleet() {
    let db = Database::empty();
    db.execute("CREATE TABLE t AS SELECT g AS x FROM generate_series(1, 10) g");
    let site = Site::new(db);
    let daemons = [site.daemon(), site.daemon()];
    let (port, prefix) = (Services::get().amqp, &site.broker.prefix);
    let mut jobs = Vec::new();
    for (i, (name, flags, properties, says)) in cases().into_iter().enumerate() {
        let properties = (flags, &properties[..]);
        let job = format!("bad-{i}");
        let body = json!({"job_id": job, "tables": ["public.t"]}).to_string();
        let mut taken =
            publish_raw(port, "", format!("{prefix}.requests").as_bytes(), properties, body.as_bytes());
        for queue in ["work", "coordinator"] {
            taken &= publish_raw(port, "", format!("{prefix}.{queue}").as_bytes(), properties, b"{}");
        }
        taken &= publish_raw(port, &format!("{prefix}.control"), b"a.key.\xe9", properties, b"{}");
        // The broker itself checks these two.
        assert_eq!(taken, !matches!(name, "expiration" | "user_id"), "{name}");
        let asked = Instant::now();
        let good = site.export(json!({"tables": ["public.t"]}));
        assert!(asked.elapsed() < Duration::from_secs(30), "{name}: {:?}", asked.elapsed());
        jobs.push(good.job().to_owned());
        if taken {
            let end = site.broker.events.wait_final(&job, PATIENCE);
            if says.is_empty() {
                assert_eq!(end.kind(), "job.completed", "{name}: {}", end.body);
                jobs.push(job.clone());
            } else {
                assert_eq!(end.kind(), "job.rejected", "{name}: {}", end.body);
                assert!(
                    end.error().contains(says) && end.error().contains(r"\xe9"),
                    "{name}: {}",
                    end.error()
                );
            }
        }
        assert_ready(&daemons, name);
    }
    let log = daemons.iter().map(Daemon::log).collect::<String>();
    assert!(!log.contains("the session with the broker broke"), "{log}");
    for queue in ["requests", "work", "coordinator", "control."] {
        let named = |line: &str| {
            line.contains("cannot be read as it was sent")
                && line.contains(&format!("{prefix}.{queue}"))
                && line.contains("app_id")
        };
        assert!(log.lines().any(named), "{queue}: {log}");
    }
    site.assert_sound(&jobs, daemons);
}

#[test]
fn bodies_are_read_as_they_are_encoded_and_what_is_not_read_is_named() {
    let db = Database::empty();
    db.execute("CREATE TABLE t AS SELECT g AS x FROM generate_series(1, 10) g");
    let site = Site::new(db);
    let daemon = site.daemon();
    let plain = br#"{"tables": ["public.t"], "exclude": null, "output": {"compression": null}}"#;
    let wide: Vec<u8> = plain.iter().flat_map(|b| [*b, 0]).collect();
    let twice = br#"{"tables": ["public.t"], "tables": ["public.u"]}"#;
    let bomb = gzip(&vec![b' '; 8 << 20]);
    let huge = vec![b' '; 5 << 20];
    let cases: [(&str, &str, Vec<u8>, &str); 14] = [
        ("bom", "", [b"\xEF\xBB\xBF", &plain[..]].concat(), ""),
        ("gzip", "gzip", gzip(plain), ""),
        ("gzip-bom", "gzip", gzip(&[b"\xEF\xBB\xBF", &plain[..]].concat()), ""),
        ("deflate", "deflate", zlib(plain), ""),
        ("charset", "utf-8", plain.to_vec(), ""),
        ("utf16", "", wide.clone(), "UTF-16"),
        ("utf16-bom", "", [b"\xFF\xFE", &wide[..]].concat(), "UTF-16"),
        ("silent", "", gzip(plain), "gzip"),
        ("brotli", "br", plain.to_vec(), "`br`"),
        ("lie", "gzip", plain.to_vec(), "gzip"),
        ("bomb", "gzip", bomb, "1 MiB"),
        ("huge", "", huge, "5242880 bytes"),
        ("twice", "", twice.to_vec(), "`tables`: it is given twice"),
        ("twice-packed", "gzip", gzip(twice), "`tables`: it is given twice"),
    ];
    let mut jobs = Vec::new();
    for (id, coding, body, says) in &cases {
        let mut properties = BasicProperties::default().with_message_id((*id).into());
        if !coding.is_empty() {
            properties = properties.with_content_encoding((*coding).into());
        }
        site.broker.publish(body, properties);
        let end = eventually(&format!("an answer to {id}"), Duration::from_secs(30), || {
            let mine = |e: &crate::support::Event| e.data()["message_id"] == *id || e.job() == *id;
            site.broker.events.all().into_iter().find(|e| e.is_final() && mine(e))
        });
        if says.is_empty() {
            assert_eq!(end.kind(), "job.completed", "{id}: {}", end.body);
            jobs.push(*id);
        } else {
            assert_eq!(end.kind(), "job.rejected", "{id}: {}", end.body);
            assert!(end.error().contains(says), "{id}: {}", end.error());
        }
    }
    site.assert_sound(&jobs, [daemon]);
}
