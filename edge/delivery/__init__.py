"""Chunks to a verified artifact: nothing that comes from a broker is parsed or used before it is proven."""
