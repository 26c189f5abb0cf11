"""The Constant Contact sandbox: OAuth, contacts, lists, fields and bulk activities in memory."""
