"""Health and figures: is it alive, what is away, how far behind are the workers. Answers 200 even when something is away."""
