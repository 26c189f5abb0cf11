"""The providers' APIs imitated from their documentation, and a mailbox."""
