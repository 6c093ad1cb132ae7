-- A share is found by the folded form of its name; `name` keeps the owner's spelling.
CREATE TABLE shares (
    name_key   TEXT    PRIMARY KEY,
    name       TEXT    NOT NULL,
    path       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- `grantee` is 'all' or a node id in its text form.
CREATE TABLE grants (
    name_key TEXT    NOT NULL REFERENCES shares (name_key) ON DELETE CASCADE,
    grantee  TEXT    NOT NULL,
    rw       INTEGER NOT NULL CHECK (rw IN (0, 1)),
    PRIMARY KEY (name_key, grantee)
) STRICT;
