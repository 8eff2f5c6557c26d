"""`python -m catvton_ov bench`: recipes side by side, and the yardsticks they are measured against."""
