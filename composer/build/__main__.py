"""`python -m composer.build`: the builds of services, for somebody who must not fork.

Reads {"stack", "images", "names"} as JSON from standard input. Writes a JSON object per line: events, and at
the end {"images": {service: id}} or {"error": …}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from composer.build.builder import Builder
from composer.build.faults import packed
from composer.build.request import Options, requests
from composer.build.walk import Event
from composer.errors import ComposerError
from composer.model.digest import load_stack
from composer.paths import Paths
from composer.runtime import linux


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def tell(event: Event) -> None:
    say({name: getattr(event, name) for name in Event.__fields__})


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGTERM)
    asked = json.load(sys.stdin)
    environment = dict(os.environ)
    try:
        stack = load_stack(json.dumps(asked["stack"]).encode())
        wanted = requests(stack, asked["images"], asked["names"], Options(), environment)
        images = Builder(Paths.here(), tell, environment).build(wanted)
    except ComposerError as error:
        say({"error": packed(error)})
        return 1
    say({"images": images})
    return 0


if __name__ == "__main__":
    sys.exit(main())
