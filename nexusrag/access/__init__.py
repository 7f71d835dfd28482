"""Who may do what: roles, permissions, policies."""
