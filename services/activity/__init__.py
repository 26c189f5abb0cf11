"""The read model: run counts and the status of every contact."""
