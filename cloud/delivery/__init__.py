"""Models on their way down: what must be retained on the broker, and chunks sent again that it lost."""
