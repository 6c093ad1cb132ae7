-- So that whether a key is taken needs no look at each record.
ALTER TABLE peers ADD COLUMN wireguard_key TEXT NOT NULL DEFAULT '';
UPDATE peers SET wireguard_key = coalesce(json_extract(record, '$.wireguard_key'), '');
-- Not unique: databases of earlier versions may hold one key twice.
CREATE INDEX peers_by_wireguard_key ON peers (network, wireguard_key);
