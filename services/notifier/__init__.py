"""Mails, once per cause."""
