-- In which order members came to the servers: where one came last it is there, where it was before its server may have died.
ALTER TABLE presence ADD COLUMN came BIGINT GENERATED ALWAYS AS IDENTITY;
