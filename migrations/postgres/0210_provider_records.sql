-- What is kept of providers: open breakers, and what an admin has switched. Of two records the greater one, by the columns
-- from epoch on, is kept: texts are compared by their bytes, as the nodes do.
CREATE TABLE provider_records (
    topic        smallint NOT NULL,  -- 1 breaker, 2 switch, 3 primary, 4 cache
    provider     text     COLLATE "C" NOT NULL,
    key_id       text     COLLATE "C" NOT NULL,
    model        text     COLLATE "C" NOT NULL,
    epoch        bigint   NOT NULL,
    until_at     bigint   NOT NULL,
    at           bigint   NOT NULL,
    cool_down_us bigint   NOT NULL,
    value        text     COLLATE "C" NOT NULL,
    note         text     COLLATE "C" NOT NULL,
    author       text     COLLATE "C" NOT NULL,
    PRIMARY KEY (topic, provider, key_id, model)
);
