"""Pictures, before and after the model: reading them safely."""
