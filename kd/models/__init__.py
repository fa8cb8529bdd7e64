"""Student shapes and building, layer maps, and where weights come from."""
