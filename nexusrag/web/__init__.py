"""HTTP machinery: Router, Gate, route class, envelope, errors, event streams, cursors, legacy aliases."""
