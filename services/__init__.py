"""The processes of the platform, one package each."""
