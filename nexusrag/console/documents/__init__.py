"""Documents as the console shows them: searched, sorted, counted by state, and acted on optimistically."""
