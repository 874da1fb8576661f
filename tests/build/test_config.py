"""What each instruction makes of the image's configuration. Nothing runs here, so no privilege is needed."""

from __future__ import annotations

from typing import Any

import pytest

from composer.build.cache import Cache
from composer.build.faults import DockerfileError
from composer.build.request import Request
from composer.build.site import Site
from composer.images.builtin import PATH
from tests.build.conftest import Yard

SECOND = 10**9

SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ENV a=b c='d e'", {"Env": ["a=b", "c=d e"]}),
    ("ENV a b c", {"Env": ["a=b c"]}),
    ("ENV a=1\nENV a=2 b=$a", {"Env": ["a=2", "b=1"]}),
    ("ENV a=1\nENV b=${a:-x} c=${d:-x}", {"Env": ["a=1", "b=1", "c=x"]}),
    ("ARG v=1\nENV a=$v", {"Env": ["a=1"]}),
    ("ARG given=1\nENV a=$given", {"Env": ["a=yes"]}),
    ("ARG given\nENV given=env a=$given", {"Env": ["given=env", "a=yes"]}),
    ("ARG x=1\nENV x=2\nENV a=$x", {"Env": ["x=2", "a=2"]}),
    ("ENV a=$undeclared", {"Env": ["a="]}),
    ("ARG TARGETOS\nENV a=$TARGETOS$TARGETARCH", {"Env": ["a=linux"]}),
    ("LABEL a=b\nLABEL c.d='e f' a=2", {"Labels": {"a": "2", "c.d": "e f"}}),
    ('CMD ["a", "b"]', {"Cmd": ["a", "b"]}),
    ("CMD a  b", {"Cmd": ["/bin/sh", "-c", "a  b"]}),
    ('SHELL ["/x", "-y"]\nCMD a $b', {"Cmd": ["/x", "-y", "a $b"], "Shell": ["/x", "-y"]}),
    ("ENTRYPOINT a", {"Entrypoint": ["/bin/sh", "-c", "a"]}),
    ('CMD ["a"]\nENTRYPOINT ["b"]', {"Cmd": ["a"], "Entrypoint": ["b"]}),
    ("CMD []", {"Cmd": []}),
    (
        "EXPOSE 80 53/udp 90-91/TCP",
        {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}},
    ),
    ("ENV p=80\nEXPOSE $p", {"Env": ["p=80"], "ExposedPorts": {"80/tcp": {}}}),
    ("USER ann:staff", {"User": "ann:staff"}),
    ('VOLUME /a /b\nVOLUME ["/c d"]', {"Volumes": {"/a": {}, "/b": {}, "/c d": {}}}),
    ("STOPSIGNAL SIGINT", {"StopSignal": "SIGINT"}),
    ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
    (
        "HEALTHCHECK --interval=1m30s --timeout=2s --start-period=500ms --retries=4 CMD a b",
        {
            "Healthcheck": {
                "Test": ["CMD-SHELL", "a b"],
                "Interval": 90 * SECOND,
                "Timeout": 2 * SECOND,
                "StartPeriod": SECOND // 2,
                "Retries": 4,
            }
        },
    ),
    ('HEALTHCHECK CMD ["a"]', {"Healthcheck": {"Test": ["CMD", "a"]}}),
    ("ONBUILD RUN a $b\nONBUILD COPY . /x", {"OnBuild": ["RUN a $b", "COPY . /x"]}),
)


@pytest.mark.parametrize(("lines", "wanted"), SETTINGS, ids=[lines for lines, _ in SETTINGS])
def test_settings(bare: Yard, lines: str, wanted: dict[str, Any]) -> None:
    config = dict(bare.build(f"FROM scratch\n{lines}\n", args={"given": "yes"}).config)
    path, *config["Env"] = config["Env"]
    assert (path, config.pop("WorkingDir")) == (f"PATH={PATH}", "/")
    assert config == {"Env": []} | wanted


def test_an_entrypoint_drops_the_command_of_the_base(yard: Yard) -> None:
    assert "Cmd" not in yard.build('FROM example/base:1\nENTRYPOINT ["a"]\n').config


def test_the_base_is_built_on(yard: Yard) -> None:
    config = yard.build("FROM example/base:1\nENV a=$PATH\n").config
    assert config["Env"] == ["PATH=/bin", "a=/bin"]
    assert config["Cmd"] == ["/bin/sh"]


def test_labels_and_names_of_the_request(bare: Yard) -> None:
    built = bare.build("FROM scratch\nLABEL a=1 b=2\n", labels={"b": "3"}, images=("t:1", "other:2"))
    assert built.config["Labels"] == {"a": "1", "b": "3"}
    assert bare.store.get("other:2").id == built.image.id


def test_history_tells_every_step(bare: Yard) -> None:
    history = bare.build("FROM scratch\nMAINTAINER Me <m@e>\nENV a=1\n").image.config["history"]
    assert [(step["created_by"], step["empty_layer"]) for step in history] == [
        ("MAINTAINER Me <m@e>", True),
        ("ENV a=1", True),
    ]
    assert bare.store.get("t:1").config["author"] == "Me <m@e>"


WRONG = (
    ("EXPOSE x", "port"),
    ("EXPOSE 80/x", "protocol"),
    ("EXPOSE 99999999999999999999", "port"),
    ("STOPSIGNAL SIGNOPE", "signal"),
    ("HEALTHCHECK --interval=soon CMD a", "duration"),
    ("HEALTHCHECK --interval=1us CMD a", "shorter"),
    ("HEALTHCHECK --retries=x CMD a", "number"),
    ("ENV a=${b", "missing"),
    ('ENV a="${b:?is needed}"', "is needed"),
    ("RUN --mount=type=nope,target=/x a", "nope"),
    ("RUN --mount=type=cache a", "target"),
    ("RUN --mount=type=bind,targt=/a a", "targt"),
    ("RUN --network=bridge a", "network"),
    ("RUN --security=insecure a", "not allowed"),
    ("COPY nothing /", "no nothing in the build context"),
    ("COPY ../x /", "no ../x"),
    ("COPY --chmod=u=q Dockerfile /", "mode"),
)


@pytest.mark.kernel
@pytest.mark.parametrize(("line", "words"), WRONG)
def test_mistakes_are_shown_in_the_dockerfile(bare: Yard, line: str, words: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        bare.build(f"FROM scratch\n\n{line}\n")
    complaint = caught.value.complaints[0]
    assert words in complaint.message
    assert complaint.place is not None and complaint.place.line == 3


def test_another_machine_is_refused(bare: Yard) -> None:
    with pytest.raises(DockerfileError, match="nothing of another machine"):
        bare.build("FROM --platform=linux/s390x scratch\n")


def test_arguments_that_nobody_takes_are_told(bare: Yard) -> None:
    events = bare.build("FROM scratch\nARG a\n", args={"a": "1", "b": "2", "HTTP_PROXY": "x"}).events
    told = [event.text for event in events if event.status == "warning"]
    assert len(told) == 1 and told[0].endswith("takes the build argument b")


def test_only_the_target_and_what_it_needs(bare: Yard) -> None:
    text = "FROM nothing/like:this AS no\nFROM scratch AS yes\nENV a=1\nFROM no\n"
    assert bare.build(text, target="yes").config["Env"][1:] == ["a=1"]


def test_the_images_that_a_build_needs(bare: Yard) -> None:
    bare.write(
        "Dockerfile",
        "ARG V=1\nFROM unused AS a\nFROM one:$V AS b\nRUN --mount=from=two,target=/x true\nFROM b\n"
        "COPY --from=b / /\nCOPY --from=three / /\nCOPY --from=folder / /\nCOPY --from=named / /\n",
    )
    request = Request(
        name="t",
        images=("t:1",),
        context=str(bare.context),
        contexts={"folder": "/tmp", "named": "docker-image://four:2"},
    )
    site = Site(request, Cache(bare.paths), bare.store, {})
    assert list(site.images()) == ["one:1", "two", "three", "four:2"]
