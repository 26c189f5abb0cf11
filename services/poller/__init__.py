"""Reads changed contacts from sources, page by page."""
