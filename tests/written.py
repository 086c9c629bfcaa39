"""Texts for property tests of what a model writes."""

from hypothesis import strategies as st

WRITTEN = st.characters(exclude_categories=["Cs"], exclude_characters="\x1c\x1d\x1e\x1f\ufffd")
"""Any character but separators that Python alone takes for white space, and the mark of bytes that are no text."""
