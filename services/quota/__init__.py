"""The accountant: months, decisions told, what is finished, and reconciliation."""
