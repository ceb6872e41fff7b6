-- Images and large results, named by the SHA-256 of their bytes (32 bytes). Times are microseconds since the
-- Unix epoch in UTC, on the server's clock.

CREATE TABLE artifacts (
    digest      bytea  NOT NULL PRIMARY KEY CHECK (octet_length(digest) = 32),
    size        bigint NOT NULL CHECK (size >= 0),
    media_type  text   NOT NULL,
    created_at  bigint NOT NULL,
    -- When it was last put: somebody needs it still.
    put_at      bigint NOT NULL
);

CREATE INDEX artifacts_by_put_at ON artifacts (put_at);

-- The bytes, in chunks of 256 KiB that count from 0. They appear and go with their artifact, in its transaction.
CREATE TABLE artifact_chunks (
    digest  bytea   NOT NULL REFERENCES artifacts (digest) ON DELETE CASCADE,
    number  integer NOT NULL,
    data    bytea   NOT NULL,
    PRIMARY KEY (digest, number)
);

-- Images are compressed already: trying it again only costs time.
ALTER TABLE artifact_chunks ALTER COLUMN data SET STORAGE EXTERNAL;
