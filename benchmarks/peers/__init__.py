"""The same job done by singer-sdk and dlt, as their documentation does it (docs/benchmarks.md)."""
