"""The configuration REST API."""
