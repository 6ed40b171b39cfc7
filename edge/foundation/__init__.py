"""What every room of the edge stands on: its settings."""
