"""Variables in words: every form, by what BuildKit's lexer gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.build.expand import ExpandError, expand, expand_heredoc

KNOWN = {"x": "value", "empty": "", "path": "/a/b/c.tar.gz", "_u": "u", "word": "aXbXc"}

FORMS = (
    ("$x", "value"),
    ("${x}", "value"),
    ("a${x}b$x-", "avalueb" + "value-"),
    ("$unset-", "-"),
    ("$_u", "u"),
    ("$xy", ""),
    ("${unset:-d}", "d"),
    ("${unset-d}", "d"),
    ("${empty:-d}", "d"),
    ("${empty-d}", ""),
    ("${x:+y}", "y"),
    ("${unset:+y}", ""),
    ("${empty:+y}", ""),
    ("${empty+y}", "y"),
    ("${x:?no}", "value"),
    ("${x?no}", "value"),
    ("${empty?no}", ""),
    ("${unset:-${x}}", "value"),
    ('${unset:-"a b"}', "a b"),
    ("${unset:-$x}", "value"),
    ("${path#*/}", "a/b/c.tar.gz"),
    ("${path##*/}", "c.tar.gz"),
    ("${path%.*}", "/a/b/c.tar"),
    ("${path%%.*}", "/a/b/c"),
    ("${path%zip}", "/a/b/c.tar.gz"),
    ("${word/X/-}", "a-bXc"),
    ("${word//X/-}", "a-b-c"),
    ("${word//[X]/-}", "aXbXc"),
    (r"\$x", "$x"),
    (r"a\ b", "a b"),
    (r"\\", "\\"),
    ("'$x'", "$x"),
    ('"$x"', "value"),
    (r'"\$x"', "$x"),
    (r'"\n"', r"\n"),
    ("'a'\"b\"c", "abc"),
    ("$", "$"),
    ("$/", "$/"),
    ("100%", "100%"),
)


@pytest.mark.parametrize(("text", "wanted"), FORMS)
def test_forms(text: str, wanted: str) -> None:
    assert expand(text, KNOWN) == wanted


def test_another_escape() -> None:
    assert expand("`$x C:\\$x", KNOWN, "`") == "$x C:\\value"


@pytest.mark.parametrize(
    "text", ["${", "${}", "${x", "'a", '"a', "${x:=y}", "${unset:?no}", "${x:", "${:-a}"]
)
def test_what_cannot_be_expanded(text: str) -> None:
    with pytest.raises(ExpandError):
        expand(text, KNOWN)


def test_quotes_mean_nothing_in_a_heredoc() -> None:
    assert expand_heredoc('it\'s "$x" \\$x \\n\n', KNOWN) == 'it\'s "value" $x \\n\n'


@given(st.text(alphabet="${}:-+?#%/\\'\"ax ", max_size=40))
def test_nothing_but_its_own_error(text: str) -> None:
    try:
        expand(text, KNOWN)
    except ExpandError:
        pass


def test_depth_is_bounded() -> None:
    with pytest.raises(ExpandError, match="forms"):
        expand("${a:-" * 100 + "}" * 100, {})
