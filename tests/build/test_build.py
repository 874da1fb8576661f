"""Whole builds on the real kernel: what comes out of COPY, ADD, RUN, WORKDIR and stages."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from composer.build.faults import DockerfileError
from composer.errors import ImageError
from tests.build.conftest import BASE, Yard

pytestmark = pytest.mark.kernel
FROM = "FROM example/base:1\n"


# COPY


def test_copy_a_file_under_a_name_into_a_folder_and_several(yard: Yard) -> None:
    for name in "abc":
        yard.write(f"{name}.txt", name)
    built = yard.build(
        FROM + "COPY a.txt /x/new\nCOPY a.txt /y/\nCOPY a.txt b.txt /z\nCOPY *.txt /w/\nCOPY a.txt /tmp\n"
    )
    assert built.read("/x/new") == "a"
    assert built.listing("/y") == ["/y/a.txt"]
    assert built.listing("/z") == ["/z/a.txt", "/z/b.txt"]
    assert built.listing("/w") == ["/w/a.txt", "/w/b.txt", "/w/c.txt"]
    assert built.read("/tmp/a.txt") == "a"


def test_copy_a_folder_copies_its_content(yard: Yard) -> None:
    yard.write("dir/sub/deep", mode=0o640)
    yard.write("dir/.hidden")
    (yard.context / "dir/link").symlink_to("sub/deep")
    (yard.context / "dir").chmod(0o750)
    built = yard.build(FROM + "COPY dir /a\nCOPY dir/ /tmp/\nWORKDIR /c\nCOPY dir .\n")
    assert built.listing("/a") == ["/a/.hidden", "/a/link", "/a/sub", "/a/sub/deep"]
    assert built.mode("/a/sub/deep") == 0o640
    assert os.readlink(built.node("/a/link").places[0]) == "sub/deep"
    assert built.mode("/a") == 0o755
    assert built.mode("/tmp") == 0o1777
    assert built.has("/c/sub/deep")


def test_a_folder_to_work_in_is_the_users(yard: Yard) -> None:
    built = yard.build(FROM + "WORKDIR /a\nUSER ann\nWORKDIR /b/c\nWORKDIR d\nWORKDIR /tmp\n")
    assert [built.owner(path) for path in ("/a", "/b", "/b/c/d", "/tmp")] == [
        (0, 0),
        *[(1001, 1002)] * 2,
        (0, 0),
    ]
    assert built.config["WorkingDir"] == "/tmp"


def test_copied_files_belong_to_root_unless_said(yard: Yard) -> None:
    os.chown(yard.write("a"), 7, 8)
    built = yard.build(
        FROM + "COPY a /root1\nCOPY --chown=ann a /ann\nCOPY --chown=5 a /five\n"
        "COPY --chown=ann:staff a /both\nCOPY --chown=9:10 --chmod=711 a /made/x\n"
    )
    assert [built.owner(f"/{n}") for n in ("root1", "ann", "five", "both", "made/x", "made")] == [
        (0, 0), (1001, 1002), (5, 5), (1001, 50), (9, 10), (9, 10),
    ]  # fmt: skip
    assert built.mode("/made/x") == 0o711


@pytest.mark.parametrize(
    ("chmod", "file", "folder"),
    [
        ("600", 0o600, 0o600),
        ("u=rwX,go=rX", 0o644, 0o755),
        ("a+x", 0o755, 0o755),
        ("go-r,u+s", 0o4600, 0o4711),
        ("g=u", 0o664, 0o775),
        ("o=g,g-r+w,u-w", 0o424, 0o535),
    ],
)
def test_chmod(yard: Yard, chmod: str, file: int, folder: int) -> None:
    yard.write("d/s/a", mode=0o644)
    built = yard.build(FROM + f"COPY --chmod={chmod} d /x\n")
    assert (built.mode("/x/s/a"), built.mode("/x/s")) == (file, folder)


def test_copy_parents_and_exclude(yard: Yard) -> None:
    for name in ("src/a/x.py", "src/a/x.pyc", "src/b/y.py", "src/b/z.md"):
        yard.write(name)
    built = yard.build(
        FROM + "COPY --parents src/*/*.py /p/\nCOPY --parents ./src/./a/x.py /q/\n"
        "COPY --exclude=**/*.pyc --exclude=b src /r/\n"
    )
    assert built.listing("/p") == ["/p/src", "/p/src/a", "/p/src/a/x.py", "/p/src/b", "/p/src/b/y.py"]
    assert built.listing("/q") == ["/q/a", "/q/a/x.py"]
    assert built.listing("/r") == ["/r/a", "/r/a/x.py"]


def test_copy_parents_of_any_depth(yard: Yard) -> None:
    for name in ("src/a.txt", "src/x/b.txt", "src/x/y/c.txt", "src/x/y/d.md", "e.txt"):
        yard.write(name)
    built = yard.build(FROM + "COPY --parents src/**/*.txt /p/\nCOPY --parents ./src/./**/y/* /q/\n")
    assert built.listing("/p") == [
        "/p/src", "/p/src/a.txt", "/p/src/x", "/p/src/x/b.txt", "/p/src/x/y", "/p/src/x/y/c.txt",
    ]  # fmt: skip
    assert built.listing("/q") == ["/q/x", "/q/x/y", "/q/x/y/c.txt", "/q/x/y/d.md"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("/a/b/./c/d", ["c/d/e/bay", "c/d/foo"]),
        ("/a/b/c/d/.", ["a/b/c/d/e/bay", "a/b/c/d/foo"]),
        ("./a/b/c/d", ["a/b/c/d/e/bay", "a/b/c/d/foo"]),
        ("/a/./b/./c", ["b/c/d/e/bay", "b/c/d/foo"]),
        ("/a/./*/c", ["b/c/d/e/bay", "b/c/d/foo", "b2/c/d/e/bar"]),
        ("/a/b*/./c/**/e", ["c/d/e/bar", "c/d/e/bay"]),
        ("/a/b*/./c/**/bar", ["c/d/e/bar"]),
    ],
)
def test_the_part_of_a_path_before_a_dot_stays_behind(yard: Yard, source: str, found: list[str]) -> None:
    for name in ("a/b/c/d/foo", "a/b/c/d/e/bay", "a/b2/c/d/e/bar"):
        yard.write(name)
    built = yard.build(
        f"FROM {BASE} AS one\nCOPY a /a\nFROM {BASE}\nCOPY --from=one --parents {source} /o/\n"
    )
    listing = [path for path in built.listing("/o") if not built.node(path).is_directory]
    assert [path.removeprefix("/o/") for path in listing] == found


def test_copy_of_heredocs(yard: Yard) -> None:
    built = yard.build(
        "FROM example/base:1\nENV who=me\nCOPY <<one <<-'two' /h/\nhi $who\none\n\t\thi $who\n\ttwo\n"
        "COPY --chmod=700 <<EOF /script\n#!/bin/sh\nEOF\n"
    )
    assert built.read("/h/one") == "hi me\n"
    assert built.read("/h/two") == "hi $who\n"
    assert (built.read("/script"), built.mode("/script")) == ("#!/bin/sh\n", 0o700)


def test_copy_follows_links_of_the_image_inside_it(yard: Yard) -> None:
    """/here leads to /sticky, /bin/sh to busybox; a link to the outside leads nowhere."""
    yard.write("a", "new")
    links = "RUN busybox ln -s /etc/passwd /p && busybox ln -s ../../../etc /up\n"
    built = yard.build(FROM + links + "COPY a /here/\nCOPY a /p\nCOPY a /up/a\n")
    assert built.read("/sticky/a") == "new"
    assert built.mode("/sticky") == 0o1770
    assert built.read("/etc/passwd") == "new"
    assert built.read("/etc/a") == "new"
    assert not Path("/etc/a").exists()


def test_copy_what_does_not_fit(yard: Yard) -> None:
    yard.write("a")
    yard.write("d/bin/x")
    with pytest.raises(DockerfileError, match="is a directory in the image"):
        yard.build(FROM + "COPY a /x/bin\nRUN rm /x/bin && mkdir /x/bin\nCOPY <<bin /x/\nEOF\nbin\n")
    with pytest.raises(DockerfileError, match="not a directory in the image"):
        yard.build(FROM + "COPY a /etc/passwd/x\n")


def test_hard_links_and_holes_are_kept(yard: Yard) -> None:
    yard.write("d/one", "x")
    os.link(yard.context / "d/one", yard.context / "d/two")
    with open(yard.context / "d/sparse", "wb") as file:
        file.truncate(1 << 24)
        file.seek(1 << 23)
        file.write(b"middle")
    built = yard.build(FROM + "COPY d /d\n")
    assert built.node("/d/one").status.st_ino == built.node("/d/two").status.st_ino
    assert built.node("/d/sparse").status.st_size == 1 << 24
    assert built.node("/d/sparse").status.st_blocks < 1000


def test_copy_replaces_over_layers(yard: Yard) -> None:
    yard.write("v1/f", "1")
    yard.write("v2/f", "2")
    built = yard.build(
        FROM + "COPY v1 /v\nRUN rm /v/f && mkdir /v/f && touch /v/f/x && rm -r /v/f\nCOPY v2 /v\n"
    )
    assert built.read("/v/f") == "2"


# The context


def test_a_context_cannot_be_left(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (yard.context / "out").symlink_to("../secret")
    (yard.context / "abs").symlink_to(tmp_path / "secret")
    (yard.context / "dirs").symlink_to("..")
    for source in ("out", "abs", "dirs/secret", "../secret"):
        with pytest.raises(DockerfileError, match="no "):
            yard.build(FROM + f"COPY {source} /x\n")


def test_dockerignore(yard: Yard) -> None:
    for name in ("a.md", "README.md", "node_modules/x", "src/a", "src/b.log", "docs/keep/x", "docs/drop"):
        yard.write(name)
    yard.write(
        ".dockerignore",
        "*.md\n!README.md\nnode_modules\n**/*.log\ndocs/*\n!docs/keep\nDockerfile\n.dockerignore\n",
    )
    built = yard.build(FROM + "COPY . /x\n")
    assert built.listing("/x") == [
        "/x/README.md",
        "/x/docs",
        "/x/docs/keep",
        "/x/docs/keep/x",
        "/x/src",
        "/x/src/a",
    ]
    with pytest.raises(DockerfileError, match="dockerignore leaves it out"):
        yard.build(FROM + "COPY a.md /x\n")


def test_a_dockerfile_may_have_an_ignore_file_of_its_own(yard: Yard) -> None:
    yard.write("a")
    yard.write("b")
    yard.write(".dockerignore", "a\n")
    yard.write("Dockerfile.dockerignore", "*\n!a\n")
    assert yard.build(FROM + "COPY . /x\n").listing("/x") == ["/x/a"]


# ADD


def archive(*names: str, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as file:  # type: ignore[call-overload]
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.mode = 1, 12, 0o640
            file.addfile(entry, io.BytesIO(b"x"))
    return out.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_add_unpacks_archives_of_the_context(yard: Yard, mode: str) -> None:
    yard.write("a.data", archive("d/one", "two", mode=mode))
    yard.write("plain.tar", "not an archive")
    built = yard.build(FROM + "ADD a.data plain.tar /x/\nCOPY a.data /y/\n")
    assert built.listing("/x") == ["/x/d", "/x/d/one", "/x/plain.tar", "/x/two"]
    assert (built.owner("/x/two"), built.mode("/x/two")) == ((12, 0), 0o640)
    assert built.listing("/y") == ["/y/a.data"]


@pytest.mark.parametrize("name", ["../out", "/abs", "d/../../out"])
def test_add_of_a_hostile_archive(yard: Yard, name: str) -> None:
    """Names that climb are refused; absolute ones are inside the target."""
    yard.write("a.tar", archive(name))
    if name.startswith("/"):
        assert yard.build(FROM + "ADD a.tar /x/\n").listing("/x") == ["/x/abs"]
        return
    with pytest.raises(ImageError, match="climbs out"):
        yard.build(FROM + "ADD a.tar /x/\n")


# RUN


def test_run_in_both_forms_and_with_another_shell(yard: Yard) -> None:
    built = yard.build(
        FROM + 'ENV a=1\nRUN echo "$a" > /one\nRUN ["/bin/sh", "-c", "echo $0 > /two", "zero"]\n'
        'SHELL ["/bin/busybox", "env", "b=2", "/bin/sh", "-c"]\nRUN echo $b > /three\n'
    )
    assert [built.read(f"/{name}") for name in ("one", "two", "three")] == ["1\n", "zero\n", "2\n"]


def test_run_with_heredocs(yard: Yard) -> None:
    built = yard.build(
        FROM + "RUN <<EOF\nx=1\necho $x > /a\nEOF\n"
        "RUN cat <<one - <<two > /b\nhi\none\nthere\ntwo\n"
        "RUN <<EOF\n#!/bin/busybox sh\necho $0 > /c\nEOF\n"
    )
    assert built.read("/a") == "1\n"
    assert built.read("/b") == "there\n"
    assert built.read("/c") == "/run/build-script\n"
    assert not built.has("/run")


def test_run_sees_arguments_user_and_folder(yard: Yard) -> None:
    built = yard.build(
        FROM + "ARG v=default\nARG other\nRUN env > /env && id -u > /id\n"
        "WORKDIR /home/ann\nRUN busybox chown ann .\nUSER ann\n"
        "RUN id -u > id && echo $HOME $PWD >> id\n",
        args={"other": "given"},
    )
    lines = built.read("/env").splitlines()
    assert "v=default" in lines and "other=given" in lines
    assert not any(line.startswith("v=") for line in built.config["Env"])
    assert built.read("/home/ann/id").split() == ["1001", "/home/ann", "/home/ann"]


def test_arguments_of_a_stage_are_those_of_stages_based_on_it(yard: Yard) -> None:
    built = yard.build(
        f"""
        FROM {BASE} AS one
        ARG A=1
        ARG B
        FROM one AS two
        ARG C=$A$B
        RUN echo $A$B$C >/seen
        FROM {BASE}
        COPY --from=two /seen /seen
        LABEL a=x$A
        """,
        args={"B": "2"},
    )
    assert built.read("/seen") == "1212\n"
    assert built.config["Labels"] == {"a": "x"}


def test_a_layer_holds_what_the_command_did_and_nothing_else(yard: Yard) -> None:
    """Not the places that proc, dev, hosts and mounts stood on."""
    built = yard.build(
        FROM
        + "RUN --mount=type=tmpfs,target=/mnt/deep/tmp --mount=type=cache,target=/c touch /mine\nRUN true\n"
    )
    assert built.layers[-2:] == [["/mine"], []]


def test_a_failing_command_is_shown_with_its_line_and_last_words(yard: Yard) -> None:
    with pytest.raises(DockerfileError) as caught:
        yard.build(FROM + "ENV a=1\nRUN for i in 1 2 3; do echo line $i; done; exit 3\n")
    (complaint,) = caught.value.complaints
    assert complaint.place is not None and complaint.place.line == 3
    assert "exit code 3" in complaint.message and complaint.message.endswith("line 3")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('RUN ["/nope"]', "127"),
        ('RUN ["/etc/passwd"]', "126"),
        ("RUN nope", "exit code 127"),
        ("RUN sleep 100 & busybox kill -9 $!; wait $!", "signal 9"),
    ],
)
def test_commands_that_cannot_be(yard: Yard, line: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words):
        yard.build(FROM + line)


def test_what_a_step_leaves_running_ends_with_it(yard: Yard) -> None:
    """The step ends when its command does, though somebody still holds its output."""
    yard.build(FROM + "RUN sleep 1000 & echo started\n")
    work = yard.paths.cache / "build" / "work"
    assert [path for path in work.iterdir() if path.is_dir()] == []


def test_network_none_has_no_way_out(yard: Yard) -> None:
    built = yard.build(FROM + "RUN --network=none cat /proc/net/route > /r; ls /sys/class/net > /n\n")
    assert len(built.read("/r").splitlines()) <= 1
    assert built.read("/n") == "lo\n"


def test_extra_hosts_are_known_while_building_only(yard: Yard) -> None:
    built = yard.build(FROM + "RUN cat /etc/hosts > /h\n", extra_hosts={"db": ("10.1.2.3",)})
    assert "10.1.2.3\tdb" in built.read("/h")
    assert not built.has("/etc/hosts")


# Mounts


def test_a_cache_outlives_builds_and_is_in_no_layer(yard: Yard) -> None:
    text = (
        FROM
        + "ARG n\nRUN --mount=type=cache,target=/cache,id=c echo $n >> /cache/log && cat /cache/log > /seen\n"
    )
    assert yard.build(text, args={"n": "1"}).read("/seen") == "1\n"
    built = yard.build(text, args={"n": "2"})
    assert built.read("/seen") == "1\n2\n"
    assert not built.has("/cache")


@pytest.mark.parametrize("sharing", ["shared", "private", "locked"])
def test_cache_sharing_and_mode(yard: Yard, sharing: str) -> None:
    built = yard.build(
        FROM + f"RUN --mount=type=cache,target=/c,sharing={sharing},mode=0711,uid=5,gid=6 "
        "stat -c '%a %u %g' /c > /s\n"
    )
    assert built.read("/s") == "711 5 6\n"


def test_bind_mounts_of_context_stage_and_image(yard: Yard) -> None:
    yard.write("a", "context")
    yard.write("d/b", "folder")
    built = yard.build(
        "FROM example/base:1 AS one\nRUN mkdir /s && echo stage > /s/f\n" + FROM + "RUN "
        "--mount=type=bind,source=a,target=/m/a --mount=type=bind,source=d,target=/m/d "
        "--mount=type=bind,from=one,source=/s,target=/m/s --mount=type=bind,from=example/base:1,target=/m/i "
        "cat /m/a /m/d/b /m/s/f > /seen; ls /m/i > /i; touch /m/d/new 2> /err; true\n"
    )
    assert built.read("/seen") == "contextfolderstage\n"
    assert "passwd" not in built.read("/i") and "etc" in built.read("/i")
    assert "Read-only" in built.read("/err")
    assert not built.has("/m") and not (yard.context / "d/new").exists()


def test_a_bind_mount_that_may_be_written_is_a_copy(yard: Yard) -> None:
    yard.write("d/b", "folder")
    built = yard.build(FROM + "RUN --mount=type=bind,source=d,target=/m,rw touch /m/new && ls /m > /seen\n")
    assert built.read("/seen") == "b\nnew\n"
    assert os.listdir(yard.context / "d") == ["b"]


def test_ignored_files_are_not_in_a_bind_mount(yard: Yard) -> None:
    yard.write("d/a")
    yard.write("d/secret")
    yard.write(".dockerignore", "d/secret")
    assert yard.build(FROM + "RUN --mount=type=bind,target=/m ls /m/d > /seen\n").read("/seen") == "a\n"


def test_secrets_reach_the_command_and_no_layer(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file")
    built = yard.build(
        FROM + "RUN --mount=type=secret,id=one --mount=type=secret,id=two,target=/t,mode=0444,uid=7 "
        "--mount=type=secret,id=one,env=ONE "
        'test "$(cat /run/secrets/one)$(cat /t)$ONE" = textfrom-a-filetext '
        "&& stat -c '%a %u' /t /run/secrets/one > /modes\n",
        secrets={"one": b"text", "two": str(tmp_path / "token")},
    )
    assert built.read("/modes") == "444 7\n400 0\n"
    assert not built.has("/t") and not built.has("/run")
    for path in (yard.root / "state").rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert b"from-a-file" not in data.replace(b"textfrom-a-filetext", b""), path


def test_a_required_secret(yard: Yard) -> None:
    yard.build(FROM + "RUN --mount=type=secret,id=one test ! -e /run/secrets/one\n")
    with pytest.raises(DockerfileError, match="secret one is required"):
        yard.build(FROM + "RUN --mount=type=secret,id=one,required true\n")


# Stages


def test_copy_from_stages_and_images(yard: Yard) -> None:
    built = yard.build(
        "FROM example/base:1 AS tools\nRUN mkdir /out && echo made > /out/a && busybox chown -R ann /out\n"
        "FROM scratch\nCOPY --from=tools /out /o\nCOPY --from=0 /out/a /b\n"
        "COPY --from=example/base:1 /etc/group /g\n"
    )
    assert built.listing() == ["/b", "/g", "/o", "/o/a"]
    assert built.owner("/o/a") == (1001, 0)


def test_independent_stages_run_side_by_side(yard: Yard) -> None:
    """Each waits for the other by a shared cache: one after the other they would wait for ever."""
    wait = (
        "RUN --mount=type=cache,target=/c,id=meet touch /c/{0} && until test -e /c/{1}; do sleep 0.01; done\n"
    )
    built = yard.build(
        f"{FROM[:-1]} AS a\n{wait.format(1, 2)}{FROM[:-1]} AS b\n{wait.format(2, 1)}"
        "FROM scratch\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n"
    )
    assert built.listing() == ["/a", "/b"]


def test_onbuild_runs_in_the_next_build(yard: Yard) -> None:
    yard.write("a", "copied")
    yard.build(FROM + "ONBUILD COPY a /a\nONBUILD RUN cat /a > /b\n", images=("parent:1",))
    built = yard.build("FROM parent:1\nRUN cat /b > /c\n")
    assert built.read("/c") == "copied"
    assert "OnBuild" not in built.config


def test_onbuild_may_take_files_of_the_stages_there(yard: Yard) -> None:
    yard.build(
        FROM
        + "ONBUILD COPY --from=made /one /one\nONBUILD RUN --mount=from=made,target=/m cat /m/one >/two\n",
        images=("example/triggers:1",),
    )
    built = yard.build(f"FROM {BASE} AS made\nRUN echo 1 >/one\nFROM example/triggers:1\n")
    assert built.read("/one") == built.read("/two") == "1\n"


def test_arguments_that_need_no_arg(yard: Yard) -> None:
    text = """
        FROM example/base:1 AS last
        ARG TARGETSTAGE
        ARG TARGETARCH
        RUN --mount=type=cache,target=/c touch /c/$(cat /proc/sys/kernel/hostname); \\
            echo $TARGETSTAGE $TARGETARCH $(ls /c)
        """
    given = {"TARGETARCH": "mine", "BUILDKIT_SANDBOX_HOSTNAME": "box", "BUILDKIT_CACHE_MOUNT_NS": "one"}
    first = yard.build(text, args=given, target="last")
    assert first.said == ["last mine box"]
    assert [event.text for event in first.events if event.status == "warning"] == []
    second = yard.build(text, args={"BUILDKIT_CACHE_MOUNT_NS": "two"})
    assert second.said[0].startswith("last ") and second.said[0].endswith(" build")
    told = yard.build(text, args={"BUILDKIT_SYNTAX": "x"}).events
    assert any("BUILDKIT_SYNTAX" in event.text for event in told if event.status == "warning")


def test_a_variable_adds_no_field_to_a_mount(yard: Yard) -> None:
    yard.write("a,b/f")
    text = FROM + "ARG S=a,b\nRUN --mount=target=/m,source=$S cat /m/f >/x; ! touch /m/g\n"
    assert yard.build(text).read("/x") == "x\n"
    text = FROM + 'RUN --mount=target=/m,"source=a,b" cat /m/f >/y\n'
    assert yard.build(text).read("/y") == "x\n"


def test_contexts_with_names(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "f").write_text("other")
    built = yard.build(
        "FROM base\nCOPY --from=more f /f\n",
        contexts={"more": str(tmp_path / "other"), "base": "docker-image://example/base:1"},
    )
    assert built.read("/f") == "other"


# COPY --link

LINK = """
    FROM {base}
    COPY --link --chown=ann one /sticky/sub/one
    ADD --link folder /other/
    RUN echo done
    """


def test_a_linked_layer_survives_another_base(yard: Yard) -> None:
    """Its directories keep the owners and modes they have below; what the base has else does not matter."""
    yard.write("one", "1\n")
    yard.write("folder/two", "2\n")
    first = yard.build(LINK.format(base=BASE))
    assert first.read("/sticky/sub/one") == "1\n"
    assert first.owner("/sticky/sub/one") == (1001, 1002)
    assert first.mode("/sticky") == 0o1770
    assert first.read("/other/two") == "2\n"
    assert first.read("/etc/passwd")
    yard.build(f"FROM {BASE}\nRUN echo new >/etc/release", images=("newer:1",))
    second = yard.build(LINK.format(base="newer:1"))
    assert [title.partition("] ")[2] for title in second.done] == ["RUN echo done"]
    assert second.read("/etc/release") == "new\n"
    assert second.read("/sticky/sub/one") == "1\n"
    assert second.mode("/sticky") == 0o1770
    assert set(first.layers[1]) == set(second.layers[2])


def test_a_linked_copy_replaces_a_link_on_its_way(yard: Yard) -> None:
    yard.write("one", "1\n")
    built = yard.build(f"FROM {BASE}\nCOPY --link one /here/one")
    assert built.read("/here/one") == "1\n"
    assert not built.has("/sticky/one")


# RUN --mount=type=ssh


def key_file(place: Path, passphrase: str = "") -> Path:
    path = place / f"key{passphrase}"
    if shutil.which("ssh-keygen") is None or shutil.which("ssh-agent") is None:
        pytest.skip("OpenSSH is not installed")
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "tests", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def test_a_key_file_is_used_by_an_agent_of_the_step(yard: Yard, tmp_path: Path) -> None:
    key = key_file(tmp_path)
    built = yard.build(
        "FROM host\nRUN --mount=type=ssh,id=deploy ssh-add -L >/known\n", ssh={"deploy": (str(key),)}
    )
    assert built.read("/known").split()[1] == key.with_suffix(".pub").read_text().split()[1]
    assert not built.has("/run/buildkit")


def test_an_agent_for_another_user(yard: Yard, tmp_path: Path) -> None:
    key = key_file(tmp_path)
    built = yard.build(
        "FROM host\nUSER nobody\n"
        "RUN --mount=type=ssh,id=k,uid=65534 ssh-add -L >/tmp/known; stat -c %U%a $SSH_AUTH_SOCK >/tmp/m\n",
        ssh={"k": (str(key),)},
    )
    assert built.read("/tmp/known").split()[1] == key.with_suffix(".pub").read_text().split()[1]
    assert built.read("/tmp/m") == "nobody600\n"


def test_a_key_that_needs_a_passphrase_is_told(yard: Yard, tmp_path: Path) -> None:
    key = key_file(tmp_path, "secret")
    with pytest.raises(DockerfileError, match="cannot be used"):
        yard.build(f"FROM {BASE}\nRUN --mount=type=ssh,id=k true\n", ssh={"k": (str(key),)})
