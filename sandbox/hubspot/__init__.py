"""The HubSpot sandbox: OAuth, properties, lists and contacts of portals in memory."""
