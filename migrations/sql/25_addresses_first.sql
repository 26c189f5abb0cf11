-- Who holds an address is found by the address first, and a pair by its contact's id alone. As second
-- columns of an index they were not the only way: the primary keys begin with the integration as well,
-- and a plan made while the tables were nearly empty read all of an integration for each address, for
-- as long as the plan was kept.
drop index delivery.links_identity;
create unique index links_identity on delivery.links (identity, integration_id) where state = 'linked';
drop index delivery.pairs_integration_id_remote_id_idx;
create index on delivery.pairs using hash (remote_id);
