-- One row. The epoch rises with every start of the server and stands in the upper bits of each revision, so that
-- revisions rise across restarts although presence changes are never written.
CREATE TABLE server (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL
) STRICT;

INSERT INTO server (id, epoch) VALUES (1, 0);

CREATE TABLE networks (
    id             TEXT PRIMARY KEY,
    cidr           TEXT NOT NULL,
    network_key    TEXT NOT NULL,
    -- BLAKE3 of the admission token; the token itself is never stored.
    admission_hash BLOB NOT NULL CHECK (length(admission_hash) = 32),
    created_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE peers (
    network     TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    node_id     TEXT NOT NULL,
    -- JSON of the signed record, as the node gave it.
    record      TEXT NOT NULL,
    name        TEXT NOT NULL,
    -- IPv4 address as a number, for ordering.
    virtual_ip  INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    PRIMARY KEY (network, node_id),
    UNIQUE (network, name),
    UNIQUE (network, virtual_ip)
) STRICT, WITHOUT ROWID;
