"""The accountant: thresholds, stop and resume, orphans."""
