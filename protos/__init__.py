"""The contract between cloud and edge: messages, topics and limits. Both sides import it; it imports neither."""
