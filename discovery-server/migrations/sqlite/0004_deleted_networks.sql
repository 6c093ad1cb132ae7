-- Networks that the administrator deleted, so that their members do not make them again. Which network it was its key says,
-- and where there is none (empty) its admission token.
CREATE TABLE deleted_networks (
    id             TEXT NOT NULL,
    network_key    TEXT NOT NULL,
    admission_hash BLOB NOT NULL CHECK (length(admission_hash) = 32),
    deleted_at     INTEGER NOT NULL,
    PRIMARY KEY (id, network_key, admission_hash)
) STRICT, WITHOUT ROWID;

CREATE INDEX deleted_networks_by_time ON deleted_networks (deleted_at);
