"""Reads a SELECT of Vertica and writes it for PostgreSQL.

    [AT EPOCH n | AT EPOCH LATEST] SELECT … [UNION ALL SELECT …] [ORDER BY …] [LIMIT n]

Only the functions, operators and relations that the project's statements use are known. Anything else is an
error, so that a test sees when the code sends another statement. The answer's columns keep the Vertica types that
are declared for columns of tables (`kinds.py`); PostgreSQL tells the types of all others.
"""

from dataclasses import dataclass, field

import forms
import kinds
import refusals
from lexer import Word, literal, quote, words

# Words of expressions and clauses that mean the same in both languages.
PLAIN = set("""AND OR NOT IS NULL TRUE FALSE UNKNOWN IN BETWEEN LIKE ILIKE ESCAPE AS ASC DESC NULLS FIRST LAST CASE
WHEN THEN ELSE END DISTINCT ON JOIN LEFT RIGHT INNER OUTER CROSS USING ORDER BY OVER PARTITION ANY ALL EXISTS
SYMMETRIC DAY HOUR MINUTE SECOND YEAR MONTH TO FROM EPOCH""".split())
# Functions, and how PostgreSQL calls them.
FUNCTIONS = {name: name for name in """COUNT SUM MIN MAX COALESCE NULLIF LOWER UPPER LENGTH OCTET_LENGTH ROW_NUMBER
FLOOR CEIL ABS MOD GREATEST LEAST EXTRACT CLOCK_TIMESTAMP""".split()}
FUNCTIONS["HAS_TABLE_PRIVILEGE"] = "vertica.privilege"
# A statement with one of these reads a table, but not its rows.
AGGREGATES = {"COUNT", "SUM", "MIN", "MAX", "ROW_NUMBER"}
TYPES = {
    "INT": "int8", "INTEGER": "int8", "BIGINT": "int8", "INT8": "int8", "SMALLINT": "int8", "TINYINT": "int8",
    "FLOAT": "float8", "FLOAT8": "float8", "REAL": "float8", "DOUBLE": "float8", "BOOLEAN": "bool", "BOOL": "bool",
    "NUMERIC": "numeric", "DECIMAL": "numeric", "NUMBER": "numeric", "DATE": "date", "TIME": "time", "TIMETZ": "timetz",
    "TIMESTAMP": "timestamp", "TIMESTAMPTZ": "timestamptz", "DATETIME": "timestamp", "INTERVAL": "interval",
    "UUID": "uuid", "VARCHAR": "text", "CHAR": "bpchar", "LONG": "", "BINARY": "bytea", "VARBINARY": "bytea", "BYTEA": "bytea",
}
STOPS = {"FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "UNION"}


@dataclass
class Item:
    """A column of an answer."""

    name: str
    sql: str
    kind: object = None
    table: object = None
    nullable: bool = True
    # PostgreSQL's type.
    source: str = ""


@dataclass
class Query:
    """A SELECT. `sql` is PostgreSQL's; its columns are c0, c1, …"""

    items: list
    sql: str
    # Epoch, "latest", or None without AT EPOCH.
    epoch: object = None
    parameters: int = 0
    relations: list = field(default_factory=list)
    # Whether the answer has the rows of a table.
    rows: bool = False


class Reader:
    """Reads the words of one statement. `catalog` knows relations (relations.py)."""

    def __init__(self, sql, catalog):
        self.words, self.at, self.catalog = words(sql), 0, catalog
        self.parameters, self.relations, self.aggregates, self.scope = 0, [], False, []

    def peek(self, ahead=0):
        place = self.at + ahead
        return self.words[place] if place < len(self.words) else Word("end", "end of input", 0)

    def next(self):
        word = self.peek()
        self.at += 1
        return word

    def take(self, *expected):
        """Takes words if they are next."""
        if [self.peek(i).upper for i in range(len(expected))] == list(expected):
            self.at += len(expected)
            return True
        return False

    def must(self, *expected):
        if not self.take(*expected):
            word = self.peek()
            raise refusals.syntax(word.text, word.at)

    # Statement

    def statement(self):
        epoch = None
        if self.take("AT", "EPOCH"):
            epoch = "latest" if self.take("LATEST") else int(self.next().text)
        query = self.query()
        if self.peek().kind != "end":
            raise refusals.syntax(self.peek().text, self.peek().at)
        query.epoch, query.parameters, query.relations = epoch, self.parameters, self.relations
        query.rows = not self.aggregates and any(relation.stored for relation in self.relations)
        return query

    def query(self):
        items, sql = self.select()
        while self.take("UNION", "ALL"):
            _, more = self.select()
            sql += " UNION ALL " + more
        if self.take("ORDER", "BY"):
            sql += " ORDER BY " + self.ordered(items, "UNION ALL" in sql)
        for word in ("LIMIT", "OFFSET"):
            if self.take(word):
                number = self.next()
                if number.kind != "number":
                    raise refusals.syntax(number.text, number.at)
                sql += f" {word} {number.text}"
        return Query(items, sql)

    def ordered(self, items, union):
        text = self.expression({"LIMIT", "OFFSET"}, self.scope)
        if union:
            # After UNION only names of output columns can be sorted by.
            for n, item in enumerate(items):
                text = text.replace(quote(item.name), f"c{n}")
        return text

    def select(self):
        self.must("SELECT")
        distinct = "DISTINCT " if self.take("DISTINCT") else ""
        start = self.at
        # The scope is known after FROM; so the list is read twice.
        self.skip_list()
        source, scope = "", []
        if self.take("FROM"):
            source, scope = self.sources()
        after, self.at = self.at, start
        items = self.list(scope)
        self.at, self.scope = after, scope
        sql = f"SELECT {distinct}" + ", ".join(f"{item.sql} AS c{n}" for n, item in enumerate(items))
        sql += f" FROM {source}" if source else ""
        for clause in (("WHERE",), ("GROUP", "BY"), ("HAVING",)):
            if self.take(*clause):
                sql += f" {' '.join(clause)} " + self.expression(STOPS, scope)
        return items, sql

    def skip_list(self):
        depth = 0
        while self.peek().kind != "end" and not (depth == 0 and self.peek().upper in STOPS):
            depth += {"(": 1, ")": -1}.get(self.peek().upper, 0)
            if depth < 0:
                return
            self.at += 1

    def list(self, scope):
        items = [self.item(scope)]
        while self.take(","):
            items.append(self.item(scope))
        return items

    def item(self, scope):
        start = self.at
        sql = self.expression(STOPS | {",", "AS"}, scope)
        taken = self.words[start : self.at]
        item = self.typed(taken, sql, scope)
        if self.take("AS") or self.peek().kind in ("name", "word") and self.peek().upper not in STOPS:
            item.name = self.next().named
        return item

    def typed(self, taken, sql, scope):
        """What is known about the type of an expression."""
        shape = [word.upper or word.kind for word in taken]
        if "::" in shape and shape[-1] == ")" and shape[shape.index("::") + 1] in ("VARCHAR", "LONG"):
            cut = shape.index("::")
            inner = taken[:cut]
            while len(inner) > 2 and inner[0].text == "(" and inner[-1].text == ")":
                inner = inner[1:-1]
            found = self.typed(inner, sql[: sql.rindex("::")], scope)
            if found.kind and len(shape) == cut + (5 if shape[cut + 1] == "VARCHAR" else 6):
                found.sql = forms.text(f"({found.sql})", found.kind, found.source, False)
            elif found.kind:
                raise refusals.syntax(taken[cut].text, taken[cut].at)
            else:
                found.sql = sql
            found.kind = kinds.parse(" ".join(word.text for word in taken[cut + 1 :]).replace(" (", "("))
            found.table, found.source = None, "text"
            return found
        name = taken[-1].named if taken and taken[-1].kind in ("name", "word") else "?column?"
        column = self.column(taken, scope)
        if column:
            return Item(column.name, sql, column.kind, column.table, column.nullable, column.source)
        if len(shape) > 3 and shape[1] == "(" and shape[-1] == ")":
            column = self.column(taken[2:-1], scope)
            name = shape[0]
            if shape[0] in ("MIN", "MAX") and column:
                return Item(name, sql, column.kind, source=column.source)
            if shape[0] == "ST_ASBINARY" and column:
                return Item("ST_AsBinary", sql, kinds.parse(f"long varbinary({column.kind.octets or 1048576})"))
        return Item(name, sql)

    @staticmethod
    def column(taken, scope):
        if len(taken) not in (1, 3) or taken[-1].kind not in ("name", "word"):
            return None
        for column in scope:
            if column.name == taken[-1].named or column.name.lower() == taken[-1].named.lower():
                return column
        return None

    # FROM

    def sources(self):
        sql, scope = self.source()
        while True:
            if self.take(","):
                more, others = self.source()
                sql, scope = f"{sql}, {more}", scope + others
                continue
            join = next((j for j in (("JOIN",), ("INNER", "JOIN"), ("LEFT", "JOIN"), ("LEFT", "OUTER", "JOIN"),
                                     ("CROSS", "JOIN")) if self.take(*j)), None)
            if not join:
                return sql, scope
            more, others = self.source()
            scope = scope + others
            sql = f"{sql} {' '.join(join)} {more}"
            if join != ("CROSS", "JOIN"):
                self.must("ON")
                sql += " ON " + self.expression(STOPS | {"JOIN", "INNER", "LEFT", "CROSS", ","}, scope)

    def source(self):
        if self.take("("):
            kept = self.at
            query = self.query()
            self.must(")")
            inner = ", ".join(f"c{n} AS {quote(item.name)}" for n, item in enumerate(query.items))
            sql, columns = f"(SELECT {inner} FROM ({query.sql}) AS inner_{kept})", query.items
        else:
            parts = [self.next()]
            while self.take("."):
                parts.append(self.next())
            if any(part.kind not in ("name", "word") for part in parts):
                raise refusals.syntax(parts[0].text, parts[0].at)
            relation = self.catalog.relation([part.named for part in parts])
            self.relations.append(relation)
            sql, columns = relation.sql, relation.columns
        if self.take("AS") or (self.peek().kind in ("name", "word") and self.peek().upper not in
                               STOPS | {"JOIN", "INNER", "LEFT", "CROSS", "ON"}):
            sql += " AS " + quote(self.next().named)
        elif sql.startswith("("):
            sql += f" AS derived_{self.at}"
        return sql, columns

    # Expressions

    def expression(self, stops, scope):
        out, depth = [], 0
        while self.peek().kind != "end":
            word = self.peek()
            if depth == 0 and (word.upper in stops or word.upper == ")"):
                break
            if depth == 0 and word.kind in ("name", "word") and out and self.ends(out) and word.upper not in PLAIN:
                break
            depth += {"(": 1, ")": -1}.get(word.upper, 0)
            out.append(self.part(scope))
        if not out or depth:
            raise refusals.syntax(self.peek().text, self.peek().at)
        return " ".join(out)

    def ends(self, out):
        """Whether an expression could end here: a name after it is an alias."""
        before = self.words[self.at - 1]
        return before.kind in ("name", "number", "text") or before.upper == ")" or (
            before.kind == "word" and before.upper not in PLAIN and before.upper not in TYPES)

    def part(self, scope):
        word = self.next()
        if word.kind in ("number", "text"):
            return word.text
        if word.kind == "bits":
            digits = word.text[2:-1]
            if word.text[0] in "Bb":
                digits = f"{int(digits or '0', 2):0{(len(digits) + 7) // 8 * 2}x}"
            return f"'\\x{digits}'::bytea"
        if word.kind == "name":
            return self.name(word, scope)
        if word.kind == "mark":
            return self.mark(word)
        return self.bare(word, scope)

    def mark(self, word):
        if word.text == "?":
            self.parameters += 1
            return f"\x01{self.parameters - 1}\x01"
        if word.text == "::":
            return "::" + self.type_name()
        if word.text in (";", "[", "]"):
            raise refusals.syntax(word.text, word.at)
        return {"<=>": "IS NOT DISTINCT FROM"}.get(word.text, word.text)

    def type_name(self):
        first = self.next()
        if first.upper not in TYPES:
            raise refusals.syntax(first.text, first.at)
        name = TYPES[first.upper]
        if first.upper == "LONG":
            name = "text" if self.take("VARCHAR") else (self.must("VARBINARY"), "bytea")[1]
        if first.upper == "DOUBLE":
            self.must("PRECISION")
        if self.take("("):
            sizes = self.next().text
            if self.take(","):
                sizes += "," + self.next().text
            self.must(")")
            name += f"({sizes})" if name in ("numeric", "bpchar", "time", "timestamp", "timetz", "timestamptz") else ""
        return name

    def name(self, word, scope):
        if self.peek().text == ".":
            return quote(word.named)
        exact = {column.name for column in scope}
        near = [name for name in exact if name.lower() == word.named.lower()]
        return quote(word.named if word.named in exact or len(near) != 1 else near[0])

    def bare(self, word, scope):
        upper = word.upper
        if self.peek().text == "(" and upper not in PLAIN:
            return self.function(word, scope)
        if upper in TYPES and self.peek().kind == "text":
            return TYPES[upper]
        if upper in PLAIN:
            return upper
        if self.peek().text == "." or self.peek(-2).text == ".":
            return word.named
        if any(column.name.lower() == word.named for column in scope) or not scope and upper == "LATEST":
            return self.name(word, scope)
        if any(item is not None for item in scope):
            raise refusals.no_column(word.text)
        raise refusals.syntax(word.text, word.at)

    def function(self, word, scope):
        upper = word.upper
        if upper == "HASH":
            self.must("(")
            inner = self.expression(set(), scope)
            self.must(")")
            return f"vertica.hash(ROW({inner})::text)"
        if upper in ("VERSION", "CURRENT_SESSION", "CURRENT_USER"):
            self.must("(")
            self.must(")")
            return literal(self.catalog.said(upper))
        if upper == "CAST":
            self.must("(")
            inner = self.expression({"AS"}, scope)
            self.must("AS")
            name = self.type_name()
            self.must(")")
            return f"CAST ({inner} AS {name})"
        if upper == "ST_ASBINARY":
            return ""
        self.aggregates |= upper in AGGREGATES
        if upper not in FUNCTIONS:
            raise refusals.unknown_statement(f"function {word.text}")
        return FUNCTIONS[upper].lower()
