"""Google Contacts: a source of contacts, all of them or a contact group."""
