//! Integration tests of the trust crate, one module per behaviour.
