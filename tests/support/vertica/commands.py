"""Statements that are no SELECT."""

import re

import frames
import refusals
import vendor
from lexer import literal

NAME = r'(?:"((?:[^"]|"")+)"|([\w$]+))'


class Command:
    """A statement without rows."""

    def __init__(self, tag, action=None, ends=False):
        self.tag, self.action, self.ends = tag, action, ends

    def run(self, session):
        if self.action:
            self.action(session)
        session.pipe.put(frames.complete(self.tag))


def find(session, sql):
    text = sql.strip().rstrip(";").strip()
    for pattern, make in PATTERNS:
        match = re.fullmatch(pattern, text, re.IGNORECASE)
        if match:
            return make(*match.groups())
    if session.server.options.vendor_tests:
        return vendor.find(session, text)
    return None


def pool(quoted, plain):
    name = (quoted or plain).replace('""', '"')

    def action(session):
        # Names of pools are in lower case (documentation, CREATE RESOURCE POOL).
        if name.lower() not in session.server.options.pools:
            raise refusals.no_pool(name)
        session.pool = name.lower()

    return Command("SET", action)


def time_zone(zone):
    def action(session):
        session.postgres().execute(f"SET timezone = {literal(zone)}")
        session.pipe.put(frames.parameter("timezone", zone))

    return Command("SET", action)


def autocommit(value):
    def action(session):
        session.autocommit = value.lower() == "on"
        session.pipe.put(frames.parameter("auto_commit", value.lower()))

    return Command("SET", action, ends=True)


PATTERNS = [
    (rf"SET SESSION RESOURCE_POOL = {NAME}", pool),
    (r"SET TIME ?ZONE (?:TO )?'([^']*)'", time_zone),
    (r"SET DATESTYLE TO ISO", lambda: Command("SET")),
    (r"SET SESSION AUTOCOMMIT TO (on|off)", autocommit),
    (r"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL (?:READ COMMITTED|SERIALIZABLE)"
     r"(?: READ ONLY| READ WRITE)?", lambda: Command("SET")),
    (r"COMMIT", lambda: Command("COMMIT", ends=True)),
    (r"ROLLBACK", lambda: Command("ROLLBACK", ends=True)),
]
