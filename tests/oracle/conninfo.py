"""Parses connection strings with libpq. Input: a JSON list of strings. Output: for each an object of its settings, or null."""

import ctypes
import json
import sys


class Option(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")]
    _fields_.append(("dispsize", ctypes.c_int))


libpq = ctypes.CDLL("libpq.so.5")
libpq.PQconninfoParse.restype = ctypes.POINTER(Option)
libpq.PQconninfoParse.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
libpq.PQconninfoFree.argtypes = [ctypes.POINTER(Option)]


def parse(text):
    error = ctypes.c_char_p()
    options = libpq.PQconninfoParse(text.encode(), ctypes.byref(error))
    if not options:
        return None
    values, i = {}, 0
    while options[i].keyword:
        if options[i].val is not None:
            values[options[i].keyword.decode()] = options[i].val.decode("latin-1")
        i += 1
    libpq.PQconninfoFree(options)
    return values


json.dump([parse(text) for text in json.load(sys.stdin)], sys.stdout)
