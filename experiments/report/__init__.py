"""Notebooks, pages and the report."""

import sys

# nbformat imports jsonschema, which imports this package if it is there; that builds a grammar of
# addresses, for two seconds in every process. Notebooks have no address of that kind to be checked.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
