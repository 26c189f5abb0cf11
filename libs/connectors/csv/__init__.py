"""CSV files that people upload, as a source."""
