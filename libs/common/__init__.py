"""The plumbing every service stands on: events, Kafka, PostgreSQL, time, health."""
