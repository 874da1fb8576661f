"""Asks `web` thirty times, looking its name up each time, and counts who answered."""

import urllib.request
from collections import Counter

answers = Counter(
    urllib.request.urlopen("http://web:8000", timeout=5).read().decode().strip() for _ in range(30)
)
for answer, times in sorted(answers.items()):
    print(f"{times:3} × {answer}")
