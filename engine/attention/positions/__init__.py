"""Where tokens beyond the window are seen, one technique a file."""
