"""Runs vertica-python's own tests that need no SQL of their own, against the stand-in: vendor_tests.py --postgres DSN

The tests come with the published package. Left out are those of SQL (test_cursor, test_datatypes, test_dates, test_unicode,
test_timezones: they create, load and compute), and the tests named in LEFT_OUT, with the reason.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import psycopg

from standin import StandIn

FILES = ("authentication", "cancel", "column", "connection", "errors", "loadbalance", "tls", "transfer_format")
LEFT_OUT = {
    "test_column_names_query": "a UNION of constants",
    "test_totp": "the stand-in has no second factor",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--postgres", required=True)
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    with psycopg.connect(given.postgres, autocommit=True) as admin:
        admin.execute("DROP TABLE IF EXISTS public.full_type_tbl, public.vptest, public.test_loadbalance, public.duplicate_table")
    with StandIn(given.postgres, "--vendor-tests") as stand_in, tempfile.TemporaryDirectory() as directory:
        with psycopg.connect(given.postgres, autocommit=True) as admin:
            admin.execute("INSERT INTO vertica.users VALUES ('carol', 'a token', 'oauth') ON CONFLICT DO NOTHING")
        environment = os.environ | {
            "VP_TEST_HOST": "127.0.0.1", "VP_TEST_PORT": str(stand_in.port), "VP_TEST_USER": "dbadmin",
            "VP_TEST_DATABASE": "vdb", "VP_TEST_LOG_DIR": directory, "VP_TEST_OAUTH_USER": "carol",
            "VP_TEST_OAUTH_ACCESS_TOKEN": "a token",
        }
        tests = [f"vertica_python.tests.integration_tests.test_{name}" for name in FILES]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "--pyargs", *tests,
                   "-k", " and ".join(f"not {name}" for name in LEFT_OUT), *given.rest]
        sys.exit(subprocess.run(command, env=environment, cwd=directory, timeout=900, check=False).returncode)


if __name__ == "__main__":
    main()
