"""Keys and values in pages: where they lie, how they move between GPU, host and disk, and how they are kept."""
