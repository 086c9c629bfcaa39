"""Summaries of pages, one a file: what a page is described by, and what a query expects to find there."""
