"""Every file of the corpus. Valid ones load, and their output loaded again means the same; invalid ones are
refused with complaints that people can use."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer.errors import StackFileError
from composer.model import digest, output
from composer.model.discover import discover
from composer.model.load import Loaded, load
from tests.model import differential
from tests.model.differential import Case, Disk

CORPUS = Path(__file__).parent / "corpus"
ENVIRONMENT = {"HOME": "/home/user"}


def cases(folder: str) -> list[Case]:
    return list(differential.cases(CORPUS / folder))


def name(case: Case) -> str:
    return str(case.file.relative_to(CORPUS))


def loaded(case: Case) -> Loaded:
    return load(differential.request(case, ENVIRONMENT), Disk())


ONE_WAY = {
    "dollars": "a $ in a key is printed as $$, but keys are not interpolated when they are read",
    "profiles": "an optional dependency on an inactive service is printed, and then names an unknown one",
    "dup_ports_override": "a published port as text and as number are two entries, but printed alike",
    "empty_config": "an empty text is left out, and then nothing says where the config is from",
    "target0": "port 0 is left out when it is printed",
}


def there_and_back() -> list[Case]:
    """Whole outputs only: what a --no-… leaves out cannot come back."""
    return [c for c in cases("valid") if c.file.stem not in ONE_WAY and "--no-" not in " ".join(c.config)]


@pytest.mark.parametrize("case", there_and_back(), ids=name)
def test_output_loaded_again_means_the_same(case: Case, tmp_path: Path) -> None:
    first = loaded(case)
    printed = tmp_path / "printed.yaml"
    printed.write_text(output.yaml_text(first.config), encoding="utf-8")
    request = discover(
        Disk(),
        str(tmp_path),
        ENVIRONMENT,
        file=[str(printed)],
        project_directory=first.stack.working_dir,
        profile=["*"],
        env_file=["/dev/null"],
    ).request
    second = load(request.replace(all_resources=True), Disk())
    unsaid = {"files": (), "name_given": True, "inactive": ()}
    assert second.config == first.config
    assert _without_secrets(second.stack.replace(**unsaid)) == _without_secrets(first.stack.replace(**unsaid))


def _without_secrets(stack: object) -> object:
    """Contents that come from variables are not printed."""
    data = digest.to_json(stack)
    for section in ("secrets", "configs"):
        for one in data.get(section, {}).values():
            if one.get("environment"):
                one.pop("content", None)
    return data


@pytest.mark.parametrize("case", cases("valid"), ids=name)
def test_a_stack_survives_its_canonical_json(case: Case) -> None:
    stack = loaded(case).stack
    data = digest.dump(stack)
    assert digest.load_stack(data) == stack
    assert digest.dump(digest.load_stack(data)) == data


@pytest.mark.parametrize("case", [*cases("invalid"), *cases("refused")], ids=name)
def test_what_is_wrong_is_refused_with_its_place(case: Case) -> None:
    with pytest.raises(StackFileError) as caught:
        loaded(case)
    for complaint in caught.value.complaints:
        assert complaint.message
        assert complaint.place is not None or not complaint.path
