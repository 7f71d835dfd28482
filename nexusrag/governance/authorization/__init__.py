"""Authorization seen from outside: why somebody may do something, and what a policy would change. Decides nothing itself."""
