//! The client library: submit, watch, wait and fail over between addresses.
