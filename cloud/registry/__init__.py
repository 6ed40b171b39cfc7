"""Model versions: immutable, signed, content-addressed; their files cut into the chunks that travel."""
