-- Whether the session's node lived on after an earlier session of it was ended.
ALTER TABLE node_sessions ADD COLUMN revival INTEGER NOT NULL DEFAULT 0;
