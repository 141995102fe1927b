"""Errors, with the codes and texts of Vertica's lists of error messages (documentation, "Error messages").

The fields of ErrorResponse: vertica_python/vertica/mixins/notice_response_attr.py.
"""


class Refusal(Exception):
    """An error that the client gets."""

    def __init__(self, code, sqlstate, message, severity="ERROR", **more):
        super().__init__(message)
        self.code, self.sqlstate, self.message, self.severity = code, sqlstate, message, severity
        self.more = more

    def fields(self):
        found = {"S": self.severity, "C": self.sqlstate, "M": self.message}
        found.update({"D": self.more["detail"]} if "detail" in self.more else {})
        found.update({"H": self.more["hint"]} if "hint" in self.more else {})
        found.update({"P": self.more["position"]} if "position" in self.more else {})
        found.update({"F": "stand-in", "L": "1", "R": "stand_in", "V": str(self.code)})
        return found


def fatal(code, sqlstate, message):
    return Refusal(code, sqlstate, message, "FATAL")


def wrong_password(user):
    return fatal(3781, "28000", f'Invalid username or password: "{user}"')


def no_database(name):
    return fatal(2983, "3D000", f'Database "{name}" does not exist')


def too_many(count):
    return fatal(4060, "53300", f"New session rejected due to limit, already {count} sessions active")


def cancelled():
    return Refusal(3326, "57014", "Execution canceled by operator")


def syntax(near, position=None):
    more = {} if position is None else {"position": str(position)}
    return Refusal(4856, "42601", f'Syntax error at or near "{near}"', **more)


def unknown_statement(why):
    return Refusal(4856, "42601", f"Syntax error: the stand-in does not know this statement: {why}")


def no_relation(name):
    return Refusal(4566, "42V01", f'Relation "{name}" does not exist')


def no_schema(name):
    return Refusal(4650, "3F000", f'Schema "{name}" does not exist')


def no_column(name):
    return Refusal(2624, "42703", f'Column "{name}" does not exist')


def no_permission(name):
    return Refusal(4367, "42501", f'Permission denied for relation {name}')


def no_pool(name):
    return Refusal(4591, "42704", f'Resource pool "{name}" does not exist')


def before_history():
    return Refusal(2318, "22V21", "Can't run historical queries at epochs prior to the Ancient History Mark")


def no_epoch():
    return Refusal(3184, "22V21", "Epoch specified is not in historical epoch range")


def from_postgres(error):
    """PostgreSQL's error as Vertica would give it."""
    state = error.sqlstate or "XX000"
    message = (error.diag.message_primary if error.diag else None) or str(error)
    by_state = {
        "42P01": (4566, "42V01"), "3F000": (4650, "3F000"), "42703": (2624, "42703"), "42501": (4367, "42501"),
        "57014": (3326, "57014"), "42883": (3457, "42883"), "22P02": (3681, "22V02"), "22007": (3679, "22007"),
        "22003": (5408, "22003"), "53300": (4060, "53300"), "42601": (4856, "42601"),
    }
    code, mapped = by_state.get(state, (2, state))
    return cancelled() if mapped == "57014" else Refusal(code, mapped, message)
