-- Whose word about a run counts: of two pollers that read it, that of the newer claim.

alter table activity.runs add column fencing bigint not null default 0;  -- The claim that told it.
