//! End-to-end tests of forkwatch.
