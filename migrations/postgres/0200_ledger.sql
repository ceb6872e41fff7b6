-- What each process added to accounts of quotas and budgets. An account is of an hour or a day; its sum is that of all
-- its sources.

CREATE TABLE ledger (
    account    text   NOT NULL,
    -- The process: another one after each start.
    source     text   NOT NULL,
    -- The number of the exchange that wrote the row; a lower one does not overwrite it.
    number     bigint NOT NULL,
    -- What the source added in all.
    total      bigint NOT NULL,
    -- Until when the row is kept at least, in microseconds since the Unix epoch in UTC.
    kept_until bigint NOT NULL,
    PRIMARY KEY (account, source)
) WITH (fillfactor = 50);
