-- The store of a cluster, version 1. Times are microseconds since the Unix epoch in UTC, on the server's
-- clock unless it says otherwise. States are the numbers of the public API's TaskState:
-- 1 scheduled, 2 queued, 3 running, 4 succeeded, 5 failed, 6 cancelled.
--
-- A task's id is a UUIDv7 and begins with its time. What belongs to one task hangs on its id and is
-- partitioned by the day of it, so that a look-up by id finds one partition and retention drops whole days.
-- Nothing on the hot path joins across tasks.

-- One row per task, rewritten at every change of state. What never changes and may be large (input, result)
-- lives beside it.
CREATE TABLE tasks (
    id               uuid     NOT NULL,
    -- The lifecycle: what the task's log replays to.
    last_seq         bigint   NOT NULL,
    run_at           bigint   NOT NULL,
    -- The hand-off.
    handoff          bigint   NOT NULL,  -- raised by every way into QUEUED
    queued_at        bigint,             -- when it last became QUEUED
    not_before       bigint,             -- do not hand it off before
    started_at       bigint,             -- on the clock of the node that runs it
    finished_at      bigint,
    timeout_us       bigint   NOT NULL,
    created_at       bigint   NOT NULL,
    attempt          integer  NOT NULL,
    failures         integer  NOT NULL,
    lost             integer  NOT NULL,
    max_attempts     integer  NOT NULL,
    state            smallint NOT NULL,
    band             smallint NOT NULL,
    priority         smallint NOT NULL,
    started          boolean  NOT NULL,
    cancel_requested boolean  NOT NULL,
    alone            boolean  NOT NULL,  -- must run beside no other such task
    session          uuid,               -- who holds it, while running
    node             text,               -- of the newest attempt
    -- What never changes.
    queue            text     NOT NULL,
    namespace        text     NOT NULL,
    kind             text     NOT NULL,
    request_id       text,
    traceparent      text,
    retry_of         uuid,
    -- What the newest attempt left.
    progress_percent smallint,
    progress_message text,
    error_reason     text,
    error_message    text,
    error_retryable  boolean,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- Each index holds only the tasks in one state, so a finished task is in none of the hot ones.
CREATE INDEX tasks_queued ON tasks (queue, band, queued_at, id) INCLUDE (handoff, alone, not_before)
    WHERE state = 2;
CREATE INDEX tasks_scheduled ON tasks (run_at, id) WHERE state = 1;
CREATE INDEX tasks_running ON tasks (session, id) INCLUDE (attempt, cancel_requested) WHERE state = 3;
CREATE INDEX tasks_failed ON tasks (id) WHERE state = 5;
CREATE INDEX tasks_cancelled ON tasks (id) WHERE state = 6;

CREATE TABLE task_inputs (
    task_id uuid  PRIMARY KEY,
    input   bytea NOT NULL
) PARTITION BY RANGE (task_id);

CREATE TABLE task_results (
    task_id uuid  PRIMARY KEY,
    result  bytea NOT NULL
) PARTITION BY RANGE (task_id);

-- The log: `seq` counts from 1 without gaps, per task.
CREATE TABLE task_events (
    task_id uuid     NOT NULL,
    seq     bigint   NOT NULL,
    at      bigint   NOT NULL,
    attempt integer  NOT NULL,
    type    smallint NOT NULL,
    state   smallint NOT NULL,  -- after it
    node    text,
    detail  text,               -- JSON, by type
    PRIMARY KEY (task_id, seq)
) PARTITION BY RANGE (task_id);

-- A request id is unique in its namespace, whatever the day: so it is kept beside the partitions.
CREATE TABLE task_requests (
    namespace  text NOT NULL,
    request_id text NOT NULL,
    task_id    uuid NOT NULL,
    PRIMARY KEY (namespace, request_id)
);
CREATE INDEX task_requests_task ON task_requests (task_id);

-- Hand-offs that the broker has not confirmed. The same pair of task and number is never written twice.
CREATE TABLE outbox (
    task_id     uuid     NOT NULL,
    handoff     bigint   NOT NULL,
    queued_at   bigint   NOT NULL,
    next_try_at bigint   NOT NULL,  -- hidden until then: somebody is publishing it
    not_before  bigint,
    tries       integer  NOT NULL DEFAULT 0,
    band        smallint NOT NULL,
    alone       boolean  NOT NULL,
    queue       text     NOT NULL,
    PRIMARY KEY (task_id, handoff)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX outbox_due ON outbox (queue, band, next_try_at, task_id);

-- How many tasks are in each state, kept with every commit. The sum of the shards counts: commits of
-- several nodes at once do not wait for one row.
CREATE TABLE task_totals (
    shard     integer PRIMARY KEY,
    scheduled bigint NOT NULL DEFAULT 0,
    queued    bigint NOT NULL DEFAULT 0,
    running   bigint NOT NULL DEFAULT 0,
    succeeded bigint NOT NULL DEFAULT 0,
    failed    bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500);
INSERT INTO task_totals (shard) SELECT generate_series(0, 63);

CREATE TABLE kinds (
    name          text    PRIMARY KEY,
    version       bigint  NOT NULL,
    description   text    NOT NULL,
    input_schema  text    NOT NULL,
    result_schema text    NOT NULL,
    example_input text    NOT NULL,
    queue         text    NOT NULL,
    timeout_us    bigint  NOT NULL,
    max_attempts  integer NOT NULL
);

-- The leases of nodes. A renewal raises the counter: no key column, so it never waits for a claim, which
-- holds its session's row FOR KEY SHARE.
CREATE TABLE node_sessions (
    id           uuid    PRIMARY KEY,
    counter      bigint  NOT NULL DEFAULT 0,
    started_at   bigint  NOT NULL,
    ended_at     bigint,
    revival      boolean NOT NULL,
    node         text    NOT NULL,
    version      text    NOT NULL,
    roles        text    NOT NULL,  -- JSON, a list
    addresses    text    NOT NULL,  -- JSON, by listener
    ended_reason text
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500);
CREATE INDEX node_sessions_live ON node_sessions (started_at, id) WHERE ended_at IS NULL;

CREATE TABLE alerts (
    id          text     PRIMARY KEY,  -- a UUIDv7 in text
    rule        text     NOT NULL,
    subject     text     NOT NULL,
    severity    smallint NOT NULL,     -- 1 info, 2 warning, 3 critical
    standing    smallint NOT NULL,     -- 1 pending, 2 firing, 3 acknowledged, 4 resolved, 5 silenced
    message     text     NOT NULL,
    count       bigint   NOT NULL,
    first_at    bigint   NOT NULL,
    last_at     bigint   NOT NULL,
    resolved_at bigint
);
CREATE INDEX alerts_open ON alerts (id) WHERE standing <> 4;

-- Who may write as the one holder of a role: the newest number.
CREATE TABLE epochs (
    name   text   PRIMARY KEY,
    number bigint NOT NULL,
    holder text   NOT NULL
);

-- The smallest id of a day, counted from 1970-01-01.
CREATE FUNCTION callboard_day_start(day bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT (lpad(to_hex(day * 86400000), 12, '0') || repeat('0', 20))::uuid $$;

-- Makes one partition of each partitioned table, if absent. Bounds are the text of a partition's bound.
-- A table is made first and attached then: unlike CREATE .. PARTITION OF, that stops nobody's work.
CREATE FUNCTION callboard_make_partition(suffix text, low text, high text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    parent text;
    child  text;
    made   boolean := false;
BEGIN
    FOREACH parent IN ARRAY ARRAY['tasks', 'task_inputs', 'task_results', 'task_events'] LOOP
        child := parent || '_' || suffix;
        IF to_regclass(child) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', child, parent);
            IF parent = 'tasks' THEN
                -- Rows are rewritten a few times soon after they come: leave them room in their page.
                EXECUTE format('ALTER TABLE %I SET (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.1)',
                               child);
            END IF;
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                           parent, child, low, high);
            made := true;
        END IF;
    END LOOP;
    RETURN made;
END
$$;

-- Makes the partitions of a day, if absent.
CREATE FUNCTION callboard_make_day(day bigint) RETURNS boolean
    LANGUAGE sql
    AS $$
        SELECT callboard_make_partition(
            to_char(date '1970-01-01' + day::integer, 'YYYYMMDD'),
            quote_literal(callboard_day_start(day)),
            quote_literal(callboard_day_start(day + 1)))
    $$;

-- Ids older than this installation, and those of no sensible time, have a home too. There is no DEFAULT
-- partition: with one, no day could be added without a look at all that is in it.
DO $$
DECLARE
    yesterday bigint := extract(epoch FROM clock_timestamp())::bigint / 86400 - 1;
    beyond    bigint := date '2200-01-01' - date '1970-01-01';
BEGIN
    PERFORM callboard_make_partition('past', 'MINVALUE', quote_literal(callboard_day_start(yesterday)));
    PERFORM callboard_make_partition('beyond', quote_literal(callboard_day_start(beyond)), 'MAXVALUE');
    FOR day IN yesterday .. yesterday + 8 LOOP
        PERFORM callboard_make_day(day);
    END LOOP;
END
$$;
