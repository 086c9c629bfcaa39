"""Sparse attention: page summaries, policies, and the kernels that execute their plans; see `contract`."""
