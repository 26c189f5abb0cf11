"""Brevo's API v3, imitated from its documentation."""
