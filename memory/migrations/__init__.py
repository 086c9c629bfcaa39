"""How the database came to its present shape; `database` runs what is missing when it opens one.

One file a step in `versions/`, oldest first; a step that was released is never edited.
"""

HEAD = "0005"  # the newest step; opening a database at this step loads nothing of Alembic
