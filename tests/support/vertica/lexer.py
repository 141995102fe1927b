"""Words of a statement. No comments, no dollar quotes: a client that sends them gets an error."""

import re
from dataclasses import dataclass

import refusals

PATTERN = re.compile(
    r"""\s+
    | (?P<name>"(?:[^"]|"")+")
    | (?P<bits>[XxBb]'[0-9A-Fa-f]*')
    | (?P<text>(?:[EeNn]|[Uu]&)?'(?:[^']|'')*')
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<mark>::|<=>|<=|>=|<>|<<|>>|!=|\|\||!~~|~~|!~\*|!~|~\*|[-+*/%(),.;<>=~^&|\#\[\]?])
    """,
    re.VERBOSE,
)


@dataclass
class Word:
    kind: str
    text: str
    at: int

    @property
    def upper(self):
        """The text of a word or a mark; a quoted name is neither."""
        return self.text.upper() if self.kind in ("word", "mark") else None

    @property
    def named(self):
        """The identifier. Without quotes PostgreSQL's names are in lower case, and Vertica's match in any case."""
        return self.text[1:-1].replace('""', '"') if self.kind == "name" else self.text.lower()


def words(sql):
    found, at = [], 0
    while at < len(sql):
        match = PATTERN.match(sql, at)
        if not match:
            raise refusals.syntax(sql[at : at + 20], at + 1)
        if match.lastgroup:
            found.append(Word(match.lastgroup, match.group(), at + 1))
        at = match.end()
    while found and found[-1].text == ";":
        found.pop()
    return found


def quote(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + text.replace("'", "''") + "'"
