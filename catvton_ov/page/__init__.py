"""What stands behind the page: the model in memory, the editor's values, and the events' handlers."""
