-- Times are whole seconds since the Unix epoch. Hashes are SHA-256, bare bytes.

-- Exactly one row.
CREATE TABLE meta (
    one               INTEGER PRIMARY KEY CHECK (one = 1),
    trust_domain      TEXT    NOT NULL,
    bundle_generation INTEGER NOT NULL CHECK (bundle_generation > 0),
    key_check         BLOB    NOT NULL -- a known text under the sealing key: tells a wrong key from a broken store
) STRICT;

CREATE TABLE authorities (
    id          TEXT    PRIMARY KEY, -- hash of the certificate, in hexadecimal; also the sealed key's associated data
    role        TEXT    NOT NULL CHECK (role IN ('root', 'intermediate')),
    state       TEXT    NOT NULL CHECK (state IN ('staged', 'active', 'retiring')),
    certificate BLOB    NOT NULL,
    sealed_key  BLOB    NOT NULL,
    not_after   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_active_authority_per_role ON authorities (role) WHERE state = 'active';

CREATE TABLE leaves (
    serial     TEXT    PRIMARY KEY, -- hexadecimal
    identity   TEXT    NOT NULL,
    issued_at  INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    authority  TEXT    NOT NULL REFERENCES authorities (id),
    key_hash   BLOB    NOT NULL,
    evidence   TEXT    NOT NULL
) STRICT;
CREATE INDEX leaves_by_identity ON leaves (identity, issued_at);
CREATE INDEX leaves_by_end ON leaves (not_after);
CREATE INDEX leaves_by_authority ON leaves (authority);

CREATE TABLE tokens (
    secret_hash BLOB    PRIMARY KEY,
    identity    TEXT    NOT NULL,
    expires_at  INTEGER NOT NULL,
    key_hash    BLOB, -- the only key it may still be used for
    used_at     INTEGER
) STRICT;
CREATE INDEX tokens_by_end ON tokens (expires_at);

-- Who got which serial by which evidence, and who was refused what.
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    outcome  TEXT    NOT NULL CHECK (outcome IN ('issued', 'refused')),
    identity TEXT, -- null when the evidence proved none
    serial   TEXT,
    evidence TEXT    NOT NULL,
    peer     TEXT    NOT NULL,
    reason   TEXT
) STRICT;
CREATE INDEX audit_by_outcome ON audit (outcome, id);

-- The newest bundle that each workload verifies with.
CREATE TABLE acknowledgements (
    identity   TEXT    PRIMARY KEY,
    generation INTEGER NOT NULL,
    at         INTEGER NOT NULL
) STRICT;
