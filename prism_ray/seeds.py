"""Seeds by hashing: every random choice derives from the run's seed and the name of its purpose.

Units share no generator, so the order of work, the number of actors and retries cannot change a draw.
"""

import hashlib
import random


def derive_seed(*parts: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on every part and on nothing else.

    Parts are joined with their types and lengths, so ("a", "bc") and ("ab", "c") differ, and so do 1 and "1".

    >>> derive_seed(0, "recover", "distilled", "i00000-c00000")
    519664912127293893
    """
    digest = hashlib.sha256()
    for part in parts:
        text = f"{type(part).__name__}:{part}".encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def derive_random(*parts: str | int) -> random.Random:
    """Return a `random.Random` seeded by `derive_seed(*parts)`."""
    return random.Random(derive_seed(*parts))
