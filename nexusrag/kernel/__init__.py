"""Pure types and catalogues: ids, clock, principals, actions, error codes, event types. Imports nothing of ours."""
