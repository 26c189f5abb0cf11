"""Brevo as a destination of contacts."""
