"""Statements of vertica-python's own tests, with --vendor-tests only. They prove our protocol, not our SQL."""


def find(session, text):
    return None
