"""Series of one number over time: read, put on a regular grid, and cut into windows of a history and a horizon."""
