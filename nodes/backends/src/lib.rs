//! What the ports stand on: the embedded backends.
