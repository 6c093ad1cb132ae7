-- As with SQLite, where the comment stands.
CREATE TABLE deleted_networks (
    id             TEXT COLLATE "C" NOT NULL,
    network_key    TEXT COLLATE "C" NOT NULL,
    admission_hash BYTEA NOT NULL CHECK (length(admission_hash) = 32),
    deleted_at     BIGINT NOT NULL,
    PRIMARY KEY (id, network_key, admission_hash)
);

CREATE INDEX deleted_networks_by_time ON deleted_networks (deleted_at);
