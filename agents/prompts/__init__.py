"""The prompts, one file each: `## system`, `## user` and `## prefix` parts, slots as {{name}}."""
