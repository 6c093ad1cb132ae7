-- `networks.network_key` is empty where a network has no key.

-- Which nodes an invite has let in. Rows stay when a member goes, so that a used invite stays used.
CREATE TABLE invite_uses (
    network    TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    invite_key TEXT NOT NULL,
    node_id    TEXT NOT NULL,
    PRIMARY KEY (network, invite_key, node_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
    network    TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    -- The key that is out.
    key        TEXT NOT NULL,
    -- The signed statement, in base64.
    revocation TEXT NOT NULL,
    PRIMARY KEY (network, key)
) STRICT, WITHOUT ROWID;
