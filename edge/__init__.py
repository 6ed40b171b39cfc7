"""What runs on a device: models down, results up, offline first."""
