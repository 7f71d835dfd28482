"""Switches: kill switches, canaries and forced flags. Owns their rows and what each process holds of them."""
