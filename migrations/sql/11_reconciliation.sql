-- counters held against postings, holds and links
select;
