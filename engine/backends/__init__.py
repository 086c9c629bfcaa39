"""Backends, one a file; import the one you need, since each brings its own heavy library."""
