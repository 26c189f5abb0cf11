-- Where an account is called that has an address of its own (ActiveCampaign: each account has one);
-- null where all accounts of a provider share one.
alter table config.connections add column account_url text;
