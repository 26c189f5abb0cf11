"""HubSpot as a source of contacts."""
