"""Use cases of users: people, groups, and roles that wait for a second admin."""
