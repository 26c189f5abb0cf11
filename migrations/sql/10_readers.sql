-- who gets which mails, in which language
select;
