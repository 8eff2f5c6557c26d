"""Paper dolls: a world of drawn figures and the small CatVTON that is trained on it."""
