"""ActiveCampaign as a destination of contacts."""
