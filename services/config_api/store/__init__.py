"""All SQL of the API, a module a resource; functions take the caller's session."""
