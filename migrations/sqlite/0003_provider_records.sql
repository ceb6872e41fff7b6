-- What is kept of providers: open breakers, and what an admin has switched. Of two records the greater one, by the columns
-- from epoch on, is kept.
CREATE TABLE provider_records (
    topic        INTEGER NOT NULL,  -- 1 breaker, 2 switch, 3 primary, 4 cache
    provider     TEXT    NOT NULL,
    key_id       TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    epoch        INTEGER NOT NULL,
    until_at     INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    cool_down_us INTEGER NOT NULL,
    value        TEXT    NOT NULL,
    note         TEXT    NOT NULL,
    author       TEXT    NOT NULL,
    PRIMARY KEY (topic, provider, key_id, model)
) WITHOUT ROWID;
