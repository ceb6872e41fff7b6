//! What a person writes a task kind against.
