-- As the configuration file writes it; NULL where a command made it. Shares: the path. Grants: whom, such as 'bob'.
ALTER TABLE shares ADD COLUMN written TEXT;
ALTER TABLE grants ADD COLUMN written TEXT;
