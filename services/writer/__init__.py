"""Writes wanted effects to destinations, under the quota."""
