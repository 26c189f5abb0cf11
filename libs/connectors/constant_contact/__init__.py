"""Constant Contact: a source of contacts, list by list."""
