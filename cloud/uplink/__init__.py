"""Results up: a device's stream of batches becomes rows in the database, every one exactly once."""
