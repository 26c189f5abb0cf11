"""What contactsync costs: the real processes on the real servers, measured (docs/benchmarks.md)."""
