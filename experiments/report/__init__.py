"""Notebooks, pages and the report."""
