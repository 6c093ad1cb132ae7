-- The same tables as with SQLite, where their comments stand, and three more by which several servers share a database.
-- Names are compared byte by byte, whatever the language of the database is.
CREATE TABLE server (
    id    BIGINT PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL
);

INSERT INTO server (id, epoch) VALUES (1, 0);

CREATE TABLE networks (
    id             TEXT COLLATE "C" PRIMARY KEY,
    cidr           TEXT NOT NULL,
    network_key    TEXT NOT NULL,
    admission_hash BYTEA NOT NULL CHECK (length(admission_hash) = 32),
    created_at     BIGINT NOT NULL
);

CREATE TABLE peers (
    network       TEXT COLLATE "C" NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    node_id       TEXT COLLATE "C" NOT NULL,
    record        TEXT NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    virtual_ip    BIGINT NOT NULL,
    last_seen     BIGINT NOT NULL,
    wireguard_key TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (network, node_id),
    UNIQUE (network, name),
    UNIQUE (network, virtual_ip)
);

CREATE INDEX peers_by_wireguard_key ON peers (network, wireguard_key);

CREATE TABLE invite_uses (
    network    TEXT COLLATE "C" NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    invite_key TEXT COLLATE "C" NOT NULL,
    node_id    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (network, invite_key, node_id)
);

CREATE TABLE revocations (
    network    TEXT COLLATE "C" NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    key        TEXT COLLATE "C" NOT NULL,
    revocation TEXT NOT NULL,
    PRIMARY KEY (network, key)
);

-- The servers at work, by the epoch in which each began. Who does not renew its lease is taken for dead.
CREATE TABLE replicas (
    id          BIGINT PRIMARY KEY,
    alive_until TIMESTAMPTZ NOT NULL
);

-- Which members have a live connection, and to whom.
CREATE TABLE presence (
    network TEXT COLLATE "C" NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    node_id TEXT COLLATE "C" NOT NULL,
    replica BIGINT NOT NULL REFERENCES replicas (id) ON DELETE CASCADE,
    PRIMARY KEY (network, node_id, replica)
);

-- What the servers tell each other, in the order in which it was committed. Kept for some minutes.
CREATE TABLE news (
    seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Who told it; 0 for all.
    replica BIGINT NOT NULL,
    network TEXT COLLATE "C" NOT NULL,
    change  TEXT NOT NULL,
    told_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
