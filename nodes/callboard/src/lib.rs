//! Callboard: runs AI and operations tasks to completion.
