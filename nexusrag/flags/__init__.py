"""What operators switch at run time, asked for from everywhere above."""
