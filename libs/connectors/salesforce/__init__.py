"""Salesforce: contacts and leads of an organisation."""
