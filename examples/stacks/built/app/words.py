"""Counts words."""

import re
from collections import Counter


def count(text: str) -> list[tuple[str, int]]:
    """Words with their numbers, the most frequent first, then by the alphabet."""
    words = Counter(re.findall(r"[^\W\d_]+", text.lower()))
    return sorted(words.items(), key=lambda pair: (-pair[1], pair[0]))
