"""A mailbox for development and tests: SMTP in, a page and JSON out."""
