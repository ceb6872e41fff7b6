//! The built-in task kinds, one folder each.
