"""Turns changed contacts into wanted effects."""
