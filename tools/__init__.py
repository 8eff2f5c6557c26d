"""Tools that make what the project ships. Nothing here is needed to run the app."""
