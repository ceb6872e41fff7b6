-- The embedded store, version 1. Times are microseconds since the Unix epoch in UTC, on the store's clock
-- unless it says otherwise. States are the numbers of the public API's TaskState:
-- 1 scheduled, 2 queued, 3 running, 4 succeeded, 5 failed, 6 cancelled.

-- One row per task, small, because it is rewritten at every change of state. What never changes and may be
-- large (input, result) lives beside it. `n` is the key within this file: integers make the tables below
-- compact and their inserts appends. It is never seen outside.
CREATE TABLE tasks (
    n                INTEGER PRIMARY KEY,
    id               BLOB    NOT NULL UNIQUE,  -- 16 bytes, a UUIDv7
    -- The lifecycle: what the task's log replays to.
    state            INTEGER NOT NULL,
    attempt          INTEGER NOT NULL,
    failures         INTEGER NOT NULL,
    lost             INTEGER NOT NULL,
    last_seq         INTEGER NOT NULL,
    session          BLOB,                     -- who holds it, while running
    started          INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    run_at           INTEGER NOT NULL,
    -- The hand-off.
    handoff          INTEGER NOT NULL,         -- raised by every way into QUEUED
    alone            INTEGER NOT NULL,         -- must run beside no other such task
    queued_at        INTEGER,                  -- when it last became QUEUED
    not_before       INTEGER,                  -- do not hand it off before
    started_at       INTEGER,                  -- on the clock of the node that runs it
    finished_at      INTEGER,
    node             TEXT,                     -- of the newest attempt
    -- What never changes.
    queue            TEXT    NOT NULL,
    band             INTEGER NOT NULL,
    max_attempts     INTEGER NOT NULL,
    namespace        TEXT    NOT NULL,
    kind             TEXT    NOT NULL,
    priority         INTEGER NOT NULL,
    timeout_us       INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    request_id       TEXT,
    traceparent      TEXT,
    retry_of         BLOB,
    -- What the newest attempt left.
    progress_percent INTEGER,
    progress_message TEXT,
    error_reason     TEXT,
    error_message    TEXT,
    error_retryable  INTEGER
) STRICT;

-- Each index holds only the tasks in one state, so a finished task is in none of the hot ones. The first
-- answers a refill of the hand-off by itself.
CREATE INDEX tasks_queued ON tasks (queue, band, queued_at, id, handoff, alone, not_before) WHERE state = 2;
CREATE INDEX tasks_scheduled ON tasks (run_at, id) WHERE state = 1;
CREATE INDEX tasks_running ON tasks (session, id, attempt) WHERE state = 3;
CREATE INDEX tasks_failed ON tasks (id) WHERE state = 5;
CREATE INDEX tasks_cancelled ON tasks (id) WHERE state = 6;
CREATE UNIQUE INDEX tasks_request ON tasks (namespace, request_id) WHERE request_id IS NOT NULL;

CREATE TABLE task_inputs (
    task  INTEGER PRIMARY KEY,
    input BLOB NOT NULL
) STRICT;

CREATE TABLE task_results (
    task   INTEGER PRIMARY KEY,
    result BLOB NOT NULL
) STRICT;

-- The log: `seq` counts from 1 without gaps, per task.
CREATE TABLE task_events (
    task    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    type    INTEGER NOT NULL,
    state   INTEGER NOT NULL,  -- after it
    attempt INTEGER NOT NULL,
    node    TEXT,
    detail  TEXT,              -- JSON, by type
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;

-- How many tasks are in each state, kept with every commit.
CREATE TABLE task_totals (
    state INTEGER PRIMARY KEY,
    total INTEGER NOT NULL
) STRICT;
INSERT INTO task_totals VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0);

CREATE TABLE kinds (
    name          TEXT    PRIMARY KEY,
    version       INTEGER NOT NULL,
    description   TEXT    NOT NULL,
    input_schema  TEXT    NOT NULL,
    result_schema TEXT    NOT NULL,
    example_input TEXT    NOT NULL,
    queue         TEXT    NOT NULL,
    timeout_us    INTEGER NOT NULL,
    max_attempts  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE node_sessions (
    id           BLOB    PRIMARY KEY,
    node         TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    roles        TEXT    NOT NULL,  -- JSON, a list
    addresses    TEXT    NOT NULL,  -- JSON, by listener
    started_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    ended_reason TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX node_sessions_live ON node_sessions (started_at, id) WHERE ended_at IS NULL;

CREATE TABLE alerts (
    id          TEXT    PRIMARY KEY,  -- a UUIDv7 in text
    rule        TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    severity    INTEGER NOT NULL,     -- 1 info, 2 warning, 3 critical
    standing    INTEGER NOT NULL,     -- 1 pending, 2 firing, 3 acknowledged, 4 resolved, 5 silenced
    message     TEXT    NOT NULL,
    count       INTEGER NOT NULL,
    first_at    INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    resolved_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX alerts_open ON alerts (id) WHERE standing <> 4;
