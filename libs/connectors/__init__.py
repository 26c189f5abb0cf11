"""One folder a provider, behind one contract."""
