"""Which tokens to keep where not all can be, one technique a file. Never a default."""
