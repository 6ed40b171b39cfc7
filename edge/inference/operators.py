"""Which of TFLite's operators this device's interpreter knows."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SCHEMA = "schema_py_generated.py"
_BLOCK = re.compile(r"^class BuiltinOperator\(.*\):\n((?:    \w+ = \d+\n)+)", re.MULTILINE)


@cache
def known() -> frozenset[str] | None:
    """Names of the built-in operators in the schema that the interpreter came with; None: it came with none.

    The schema is read as text, since to import it takes 50 MB of memory for the sake of one list.
    """
    package = find_spec("ai_edge_litert")
    places = package.submodule_search_locations if package else None
    try:
        text = Path((places or [""])[0], SCHEMA).read_text(encoding="utf-8")
    except OSError:
        return None
    found = _BLOCK.search(text)
    return frozenset(re.findall(r"^    (\w+) =", found[1], re.MULTILINE)) if found else None
