"""What keeps the platform honest: policy impact, explanations, and later retention, holds and compliance."""
