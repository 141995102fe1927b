"""How the stand-in behaves: logins, epochs, cancel, faults, restarts, many sessions at once."""

import os
import threading
import time

import psycopg
import vertica_python
from vertica_python import errors

from standin import Certificate, StandIn

READ = 'SELECT "id", "t" FROM "behaviour"."big"'
FEW = 3000
SHORT = f'{READ} WHERE "id" <= {FEW}'
EPOCHS = "SELECT current_epoch, ahm_epoch FROM v_monitor.system"


def check(judge, postgres):
    with psycopg.connect(postgres, autocommit=True) as admin, StandIn(postgres) as stand_in:
        admin.execute("DROP SCHEMA IF EXISTS behaviour CASCADE; CREATE SCHEMA behaviour")
        admin.execute("CREATE TABLE behaviour.big AS SELECT g::int8 AS id, repeat(md5(g::text), 4) AS t FROM generate_series(1, 100000) AS g")
        admin.execute("CREATE TABLE behaviour.small (id int8 PRIMARY KEY, v text)")
        for step in (logins, rights, sessions, epochs, restart, cancel, stalled_reader, encrypted, faults, many):
            begin = time.monotonic()
            step(judge, stand_in, admin)
            print(f"{step.__name__}: {time.monotonic() - begin:.1f} s, {len(judge.failures)} failures", flush=True)


def refused(judge, what, action, wanted, state=None):
    try:
        action()
        judge.same(what, "no error", wanted.__name__)
    except errors.Error as error:
        judge.holds(f"{what}: {error!r}", isinstance(error, wanted))
        if state:
            judge.holds(f"{what}: {state} in {error}", state in str(error))


def logins(judge, stand_in, admin):
    for method in ("password", "md5", "hash_md5", "sha512", "hash"):
        admin.execute("INSERT INTO vertica.users VALUES ('ada', 'sesame ü', %s) ON CONFLICT (name) DO UPDATE SET method = %s,"
                      " password = excluded.password", [method, method])
        with stand_in.connect(user="ada", password="sesame ü") as connection:
            judge.same(method, connection.cursor().execute("SELECT version()").fetchone()[0], "Vertica Analytic Database v24.4.0-0")
        refused(judge, f"wrong {method}", lambda: stand_in.connect(user="ada", password="sesam"), errors.ConnectionError, "28000")
    admin.execute("UPDATE vertica.users SET method = 'oauth', password = 'token' WHERE name = 'ada'")
    with stand_in.connect(user="ada", oauth_access_token="token") as connection:
        judge.holds("oauth", connection.opened())
    refused(judge, "wrong token", lambda: stand_in.connect(user="ada", oauth_access_token="no"), errors.ConnectionError, "28000")
    admin.execute("UPDATE vertica.users SET method = 'grace' WHERE name = 'ada'")
    with stand_in.connect(user="ada") as connection:
        judge.holds("expires soon", connection.opened())
    admin.execute("UPDATE vertica.users SET method = 'expired' WHERE name = 'ada'")
    refused(judge, "expired", lambda: stand_in.connect(user="ada"), errors.ConnectionError, "expired")
    stand_in.tell("deaf")
    refused(judge, "deaf", lambda: stand_in.connect(connection_timeout=0.5), errors.ConnectionError, "timed out")
    refused(judge, "unknown user", lambda: stand_in.connect(user="eve", password="x"), errors.ConnectionError, "28000")
    refused(judge, "unknown database", lambda: stand_in.connect(database="other"), errors.ConnectionError, "3D000")
    stand_in.tell("refuse")
    refused(judge, "too many", stand_in.connect, errors.ConnectionError, "53300")
    stand_in.tell("protocol", version="3.5")
    with stand_in.connect() as connection:
        judge.same("an old server negotiates nothing", connection.parameters.get("protocol_version"), None)
    stand_in.tell("protocol", version="3.9")
    with stand_in.connect() as connection:
        judge.same("the lower version", connection.parameters["protocol_version"], 3 << 16 | 9)
    stand_in.tell("protocol", version="3.16")


def rights(judge, stand_in, admin):
    """A user with a role of its name in PostgreSQL sees what the role may read."""
    admin.execute("DROP ROLE IF EXISTS stand_in_reader")
    admin.execute("CREATE ROLE stand_in_reader; GRANT USAGE ON SCHEMA behaviour TO stand_in_reader;"
                  "GRANT SELECT ON behaviour.small TO stand_in_reader;"
                  "INSERT INTO vertica.users VALUES ('stand_in_reader', 'x', 'sha512') ON CONFLICT DO NOTHING")
    try:
        with stand_in.connect(user="stand_in_reader", password="x") as connection:
            cursor = connection.cursor()
            seen = cursor.execute("SELECT table_schema, table_name FROM v_catalog.tables WHERE table_schema = 'behaviour'")
            judge.same("tables of a user", seen.fetchall(), [["behaviour", "small"]])
            judge.same("may read", cursor.execute('SELECT "id" FROM "behaviour"."small"').fetchall(), [])
            refused(judge, "may not read", lambda: cursor.execute(READ), errors.PermissionDenied, "42501")
            ids = [45035996273704960 + admin.execute(f"SELECT 'behaviour.{name}'::regclass::oid::int8").fetchone()[0] for name in ("small", "big")]
            asked = ", ".join(f"HAS_TABLE_PRIVILEGE({number}, 'SELECT')" for number in ids)
            judge.same("privileges", cursor.execute(f"SELECT {asked}").fetchone(), [True, False])
            judge.holds("an epoch", cursor.execute(EPOCHS).fetchone()[0] > 0)
            epoch = cursor.execute(EPOCHS).fetchone()[0] - 1
            judge.same("reads under an epoch", cursor.execute(f'AT EPOCH {epoch} SELECT COUNT(*) FROM "behaviour"."small"').fetchone(), [0])
    finally:
        admin.execute("DROP OWNED BY stand_in_reader; DROP ROLE stand_in_reader")


def sessions(judge, stand_in, admin):
    with stand_in.connect(session_label="a label", binary_transfer=True) as connection:
        cursor = connection.cursor()
        cursor.execute('SET SESSION RESOURCE_POOL = "export"')
        told = [s for s in stand_in.tell("sessions")["sessions"] if s["label"] == "a label"]
        judge.same("sessions with the label", len(told), 1)
        judge.same("session", [told[0][k] for k in ("user", "running", "binary", "pool", "protocol")],
                   ["dbadmin", False, True, "export", "3.16"])
        refused(judge, "unknown pool", lambda: cursor.execute('SET SESSION RESOURCE_POOL = "nope"'), errors.QueryError, "42704")
        stand_in.tell("forget")
        refused(judge, "unknown statement", lambda: cursor.execute("SELECT pg_sleep(1)"), errors.VerticaSyntaxError)
        heard = stand_in.tell("statements")["statements"]
        judge.same("statements heard", [(s["sql"], s["known"]) for s in heard], [("SELECT pg_sleep(1)", False)])
    time.sleep(0.2)
    judge.same("sessions after the end", [s for s in stand_in.tell("sessions")["sessions"] if s["label"] == "a label"], [])


def epochs(judge, stand_in, admin):
    with stand_in.connect() as connection:
        cursor = connection.cursor()

        def last():
            return cursor.execute(EPOCHS).fetchone()[0] - 1

        def at(epoch, table="small"):
            return [row[0] for row in cursor.execute(f'AT EPOCH {epoch} SELECT "id" FROM "behaviour"."{table}" ORDER BY "id"').fetchall()]

        seen = {}
        for n in range(1, 6):
            admin.execute("INSERT INTO behaviour.small VALUES (%s, 'x')", [n])
            epoch = last()
            seen[epoch] = list(range(1, n + 1))
        admin.execute("DELETE FROM behaviour.small WHERE id < 4")
        seen[last()] = [4, 5]
        judge.same("epochs differ", len(seen), 6)
        judge.same("no commit, no epoch", last(), last())
        for epoch, ids in seen.items():
            judge.same(f"epoch {epoch}", at(epoch), ids)
        judge.same("now", [r[0] for r in cursor.execute('SELECT "id" FROM "behaviour"."small" ORDER BY "id"').fetchall()], [4, 5])
        numbers = list(seen)
        stand_in.tell("ahm", epoch=numbers[2])
        judge.same("ahm", cursor.execute(EPOCHS).fetchone()[1], numbers[2])
        judge.same("at the AHM", at(numbers[2]), seen[numbers[2]])
        refused(judge, "before the AHM", lambda: at(numbers[1]), errors.QueryError, "22V21")
        refused(judge, "the future", lambda: at(last() + 5), errors.QueryError, "22V21")
        admin.execute("CREATE TABLE behaviour.external AS SELECT 1::int8 AS id;"
                      "DELETE FROM vertica.tables WHERE schema = 'behaviour';"
                      "INSERT INTO vertica.tables (schema, relation, definition) VALUES ('behaviour', 'external', 'COPY FROM')")
        judge.same("an external table has no history", at(numbers[3], "external"), [1])
        admin.execute("ALTER TABLE behaviour.small ADD COLUMN added int DEFAULT 7")
        added = cursor.execute(f'AT EPOCH {numbers[3]} SELECT "added" FROM "behaviour"."small"').fetchall()
        judge.same("a column shows in all epochs", added, [[7]] * 4)
        admin.execute("ALTER TABLE behaviour.small DROP COLUMN added")
        admin.execute("TRUNCATE behaviour.small")
        judge.same("TRUNCATE removes history", at(numbers[4]), [])
        admin.execute("CREATE TABLE behaviour.parts (id int8) PARTITION BY RANGE (id);"
                      "CREATE TABLE behaviour.part_1 PARTITION OF behaviour.parts FOR VALUES FROM (0) TO (10);"
                      "CREATE TABLE behaviour.part_2 PARTITION OF behaviour.parts FOR VALUES FROM (10) TO (20);"
                      "INSERT INTO behaviour.parts SELECT generate_series(8, 12)")
        epoch = last()
        judge.same("partitions", at(epoch, "parts"), [8, 9, 10, 11, 12])
        admin.execute("DROP TABLE behaviour.part_1")
        judge.same("a dropped partition removes history", at(epoch, "parts"), [10, 11, 12])


def restart(judge, stand_in, admin):
    admin.execute("INSERT INTO behaviour.small VALUES (100, 'kept')")
    with stand_in.connect() as connection:
        epoch = connection.cursor().execute(EPOCHS).fetchone()[0] - 1
    admin.execute("DELETE FROM behaviour.small")
    stand_in.process.kill()
    stand_in.process.wait()
    stand_in.start()
    with stand_in.connect() as connection:
        found = connection.cursor().execute(f'AT EPOCH {epoch} SELECT "id" FROM "behaviour"."small"').fetchall()
        judge.same("an epoch outlives the server", found, [[100]])


def running(stand_in, label):
    return [s["running"] for s in stand_in.tell("sessions")["sessions"] if s["label"] == label]


def until(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def cancel(judge, stand_in, admin):
    for binary in (False, True):
        with stand_in.connect(binary_transfer=binary, session_label="cancelled") as connection:
            cursor = connection.cursor()
            cursor.execute(READ)
            for _ in range(10):
                cursor.fetchone()
            connection.cancel()
            judge.holds("freed within 2 s", until(lambda: running(stand_in, "cancelled") == [False], 2))
            refused(judge, "cancelled", cursor.fetchall, errors.QueryCanceled, "57014")
            judge.same("goes on", cursor.execute('SELECT COUNT(*) FROM "behaviour"."big"').fetchone(), [100000])
            connection.cancel()
            judge.same("a late cancel does nothing", cursor.execute("SELECT version()").fetchone() is not None, True)
    stand_in.tell("slow", ms=60000, match="behaviour")
    with stand_in.connect(session_label="slow") as connection:
        cursor = connection.cursor()
        threading.Timer(0.3, connection.cancel).start()
        begin = time.monotonic()
        refused(judge, "cancelled before the first row", lambda: cursor.execute(READ), errors.QueryCanceled)
        judge.holds("at once", time.monotonic() - begin < 2)
    stand_in.tell("good")


def stalled_reader(judge, stand_in, admin):
    with stand_in.connect(session_label="stalled") as connection:
        connection.cursor().execute(READ)
        judge.holds("runs while nobody reads", until(lambda: running(stand_in, "stalled") == [True], 1))
        time.sleep(0.5)
        judge.same("still runs", running(stand_in, "stalled"), [True])
        connection.cancel()
        judge.holds("freed although nobody reads", until(lambda: running(stand_in, "stalled") == [False], 2))
    judge.holds("gone when the client is", until(lambda: running(stand_in, "stalled") == [], 2))
    stand_in.tell("stall", rows=5)
    connection = stand_in.connect(session_label="waits")
    connection.cursor().execute(READ)
    judge.same("stalls after 5 rows", [s["rows"] for s in stand_in.tell("sessions")["sessions"] if s["label"] == "waits"], [5])
    connection.close_socket()
    judge.holds("sees that the client has gone", until(lambda: running(stand_in, "waits") == [], 2))


def encrypted(judge, stand_in, admin):
    """The same over TLS, where a send that waits must go on with the same bytes."""
    with Certificate() as own, StandIn(stand_in.postgres, "--tls", own.certificate, own.key, "--tls-required") as secure:
        refused(judge, "TLS is required", secure.connect, errors.ConnectionError, "28000")
        tls = {"tlsmode": "verify-full", "tls_cafile": own.certificate}
        with secure.connect(**tls, session_label="slowly") as connection:
            cursor = connection.cursor()
            cursor.execute(READ)
            time.sleep(1)
            found = cursor.fetchall()
            judge.same("rows over TLS", [len(found), sum(row[0] for row in found)], [100000, 100000 * 100001 // 2])
            cursor.execute(READ)
            time.sleep(0.5)
            connection.cancel()
            judge.holds("freed although nobody reads TLS", until(lambda: running(secure, "slowly") == [False], 2))
            refused(judge, "cancelled over TLS", cursor.fetchall, errors.QueryCanceled)
            judge.same("goes on over TLS", len(cursor.execute(SHORT).fetchall()), FEW)
            judge.same("told", [s["tls"] for s in secure.tell("sessions")["sessions"]], [True])


def count_until(stand_in):
    """Rows of SHORT that come before the connection breaks or an error comes."""
    count, connection = 0, stand_in.connect()
    try:
        cursor = connection.cursor()
        cursor.execute(SHORT)
        while cursor.fetchone():
            count += 1
        return count, None
    except errors.Error as error:
        return count, error
    finally:
        # Not close(), which connects again to say farewell.
        connection.close_socket()


def faults(judge, stand_in, admin):
    for fault, least, wanted in (
            ({"do": "cut", "rows": 1000}, 1000, errors.ConnectionError),
            ({"do": "cut", "rows": 1000, "at": "message"}, 1000, errors.ConnectionError),
            ({"do": "cut", "at": "complete"}, FEW, errors.ConnectionError),
            ({"do": "fail", "rows": 7, "sqlstate": "57V01", "message": "a node went down"}, 7, errors.QueryError)):
        stand_in.tell(**fault)
        count, error = count_until(stand_in)
        judge.holds(f"{fault}: {error!r}", isinstance(error, wanted))
        # vertica-python reads one message ahead of the row that it returns.
        judge.holds(f"{fault}: {count} rows", count in (least, least - 1))
        judge.same(f"after {fault}", count_until(stand_in), (FEW, None))
    stand_in.tell("notice", message="for your information")
    told = []
    with stand_in.connect() as connection:
        connection.notice_handler = lambda notice: told.append(notice.message)
        connection.cursor().execute(SHORT).fetchall()
    judge.same("a notice", told, ["for your information"])
    stand_in.tell("die", rows=50)
    count, error = count_until(stand_in)
    judge.holds(f"dead after 50 rows: {count} {error!r}", count in (49, 50) and isinstance(error, errors.ConnectionError))
    judge.same("killed", stand_in.process.wait(5), -9)
    stand_in.start()
    judge.same("alive again", count_until(stand_in), (FEW, None))


def many(judge, stand_in, admin):
    """24 sessions at once. What nobody reads stays in PostgreSQL, and not in the server's memory."""
    counts = []
    threads = [threading.Thread(target=lambda: counts.append(count_until(stand_in))) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    judge.same("rows of 24 sessions", counts, [(FEW, None)] * 24)
    unread = [stand_in.connect(session_label="unread") for _ in range(24)]
    for connection in unread:
        connection.cursor().execute(READ)
    time.sleep(1)
    judge.same("24 answers under way", running(stand_in, "unread"), [True] * 24)
    with open(f"/proc/{stand_in.process.pid}/status") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    judge.holds(f"resident memory of {resident} KiB", resident < 200 * 1024)
    for connection in unread:
        connection.close_socket()
    judge.holds("all freed", until(lambda: running(stand_in, "unread") == [], 5))
