"""Run while the image is built."""

import unittest

from words import count


class Words(unittest.TestCase):
    def test_the_most_frequent_come_first(self) -> None:
        self.assertEqual(count("To be, or not to be"), [("be", 2), ("to", 2), ("not", 1), ("or", 1)])

    def test_nothing_has_no_words(self) -> None:
        self.assertEqual(count("42 !"), [])
