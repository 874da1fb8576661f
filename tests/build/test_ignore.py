"""`.dockerignore`: the documented examples, the cases of Docker's own matcher, and what it refuses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.build.ignore import patterns, read_ignore
from composer.errors import ImageError

# patterns, path, ignored
CASES = (
    ("**", "file", True),
    ("**", "file/", True),
    ("**/", "file", True),
    ("**/", "dir/file", True),
    ("**/**", "dir/file", True),
    ("dir/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True),
    ("dir/**", "dir", False),
    ("**/dir", "dir", True),
    ("**/dir", "dir/file", True),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/*", "dir/dir2/dir2/file", True),
    ("**/dir2/**", "dir/dir2/dir2/file", True),
    ("**file", "file", True),
    ("**file", "dir/file", True),
    ("**file", "dir/dir/file", True),
    ("**/file", "dir/file", True),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*txt", "dir/dir/file.txt", True),
    ("**/file*.txt", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True),
    ("**/**/*.txt", "dir/dir/file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("**/*.txt", "file.txt", True),
    ("**/**/*.txt", "file.txt", True),
    ("a**/*.txt", "a/file.txt", True),
    ("a**/*.txt", "a/dir/file.txt", True),
    ("a[b-d]e", "ae", False),
    ("a[b-d]e", "ace", True),
    ("a[^b-d]e", "aze", True),
    ("a[^b-d]e", "ace", False),
    ("abc.def", "abcdef", False),
    ("abc.def", "abc.def", True),
    ("abc.def", "abcZdef", False),
    ("abc?def", "abcZdef", True),
    ("abc?def", "abcdef", False),
    ("a\\*b", "a*b", True),
    ("a\\*b", "axb", False),
    ("a\\*", "a*", True),
    ("**/foo/bar", "foo/bar", True),
    ("**/foo/bar", "dir/dir2/foo/bar", True),
    ("abc/**", "abc/def/ghi", True),
    ("**/.foo", ".foo", True),
    ("**/.foo", "bar.foo", False),
    ("a(b)c/def", "a(b)c/def", True),
    ("a(b)c/def", "a(b)c/xyz", False),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
    ("*", "a/b", True),
    ("a/*/b", "a/x/b", True),
    ("a/*/b", "a/x/y/b", False),
    ("dist/*.whl", "dist/a.whl", True),
    ("foo", "a/foo", False),
    ("/foo", "foo", True),
    ("foo/", "foo/bar", True),
    ("./foo//bar", "foo/bar", True),
    ("a/../foo", "foo", True),
    ("*\n!keep", "keep", False),
    ("*\n!keep", "keep/x", False),
    ("*\n!keep/x", "keep/y", True),
    ("*\n!keep/x", "keep/x", False),
    ("*.md\n!README.md", "README.md", False),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
    ("docs\n!docs", "docs/a", False),
    ("docs\n!docs/a", "docs/a/b", False),
    ("!docs\ndocs", "docs/a", True),
    ("# comment\n\n  spaced  \n", "spaced", True),
    (" # no comment", "# no comment", True),
    ("\ufefffoo", "foo", True),
    ("foo\r\nbar", "foo", True),
    ("! a", "a", False),
)


@pytest.mark.parametrize(("text", "path", "ignored"), CASES)
def test_as_docker_matches(text: str, path: str, ignored: bool) -> None:
    assert read_ignore(text, ".dockerignore").ignores(path.strip("/")) is ignored


@pytest.mark.parametrize("text", ["[", "a[", "a[]a]", "[^]", "[-]", "[x-]", "[b-a]", "!", "[\\"])
def test_patterns_that_cannot_be(text: str) -> None:
    with pytest.raises(ImageError, match="pattern"):
        read_ignore(text, ".dockerignore")


def test_an_ignored_folder_is_walked_only_for_an_exception() -> None:
    rules = read_ignore("node_modules\ndocs\n!docs/kept", ".dockerignore")
    assert not rules.may_keep_below("node_modules")
    assert rules.may_keep_below("docs")


TEXTS = st.text(alphabet="ab/*?[]^-!\\.# \n", max_size=20)


@given(TEXTS, st.text(alphabet="ab/.", min_size=1, max_size=8))
def test_any_text_is_rules_or_a_complaint(text: str, path: str) -> None:
    parts = re.sub("/+", "/", path).strip("/") or "a"
    try:
        rules = read_ignore(text, ".dockerignore")
    except ImageError:
        return
    rules.ignores(parts)
    assert len(list(patterns(text))) == len(rules.rules)
