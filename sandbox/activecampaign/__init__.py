"""ActiveCampaign's API v3 imitated from its reference, its guides and what was seen of it."""
