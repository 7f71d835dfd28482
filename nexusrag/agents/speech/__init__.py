"""Speech: spoken answers, kept as encrypted files and served to their tenant."""
