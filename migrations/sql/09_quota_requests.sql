-- asking for more (Q4)
select;
