"""bAbI's tasks 1 to 3, their facts scattered in order over a novel (BABILong; Kuratov et al., 2024), 4k to 128k tokens.

    python bench/babi.py
    python bench/babi.py --readers retrieve,memory --lengths gold,0k,4k --items 50

`gold` is the supporting facts alone, `0k` the whole story without filler.
"""

from __future__ import annotations

from command import arguments, main, quick

if __name__ == "__main__":
    main(
        "babi",
        arguments(__doc__, ("qa1", "qa2", "qa3"), "gold,0k,4k,16k,64k,128k", 2 if quick() else 20),
        lambda rows: "",
    )
