"""Salesforce, as its REST and Bulk API guides, its help pages and its clients describe it."""
