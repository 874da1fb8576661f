"""The rows: what users of Docker Compose know of its daily commands. Written from its documentation."""

from __future__ import annotations

from tests.stacks.table import Row

SLEEP = "image: localhost/benchbox:1, init: true, stop_grace_period: 2s, command: [sleep, '1000']"

LIFE = f"""
    services:
      web: {{{SLEEP}}}
      db: {{{SLEEP}}}
"""
LIFE_ROWS = (
    Row("ps -q", out=""),
    Row("start", 1, err='service "', ps={}),
    Row("stop", ps={}),
    Row("create web", ps={"web-1": "created"}),
    Row("ps --format '{{.Name}}'", out=""),
    Row("ps -a --format '{{.Name}} {{.State}}'", out="{s}-web-1 created"),
    Row("start web", ps={"web-1": "running"}),
    Row("up -d", ps={"web-1": "running", "db-1": "running"}),
    Row("up -d", ps={"web-1": "running", "db-1": "running"}),
    Row("ps --services", out="db\nweb"),
    Row("ps --format '{{.Service}} {{.State}} {{.ExitCode}}'", out="db running 0\nweb running 0"),
    Row("ps --status exited -q", out=""),
    Row("ps --filter status=running --services", out="db\nweb"),
    Row("ps nobody", 1, err="no such service: nobody"),
    Row("pause web", ps={"web-1": "paused", "db-1": "running"}),
    Row("ps --status paused --services", out="web"),
    Row("pause web", 1, err="is already paused"),
    Row("exec -T web true", 1, err="paused"),
    Row("unpause web", ps={"web-1": "running", "db-1": "running"}),
    Row("unpause web", 1, err="not paused"),
    Row("stop -t 1 web", ps={"web-1": "exited 143", "db-1": "running"}),
    Row("stop web", ps={"web-1": "exited 143", "db-1": "running"}),
    Row("exec -T web true", 1, err='service "web" is not running'),
    Row("ps --format '{{.Name}}'", out="{s}-db-1"),
    Row("ps --status exited --format '{{.Service}} {{.ExitCode}}' -a", out="web 143"),
    Row("restart web", ps={"web-1": "running", "db-1": "running"}),
    Row("kill web", ps={"web-1": "exited 137", "db-1": "running"}),
    Row("kill -s TERM db"),
    Row("wait db", 143),
    Row("kill nobody", 1, err="no such service: nobody"),
    Row("rm -f web", ps={"db-1": "exited 143"}),
    Row("start db", ps={"db-1": "running"}),
    Row("rm -f db", 0, ps={"db-1": "running"}),
    Row("rm -f -s db", ps={}),
    Row("rm -f", 0, err="No stopped containers"),
    Row("down", ps={}),
    Row("down", ps={}),
)

CODES = """
    services:
      seven: {image: "localhost/benchbox:1", command: [sh, -c, "exit 7"]}
      zero: {image: "localhost/benchbox:1", command: [sh, -c, "echo out; echo err >&2"]}
      lost: {image: "localhost/benchbox:1", command: [no-such-program], profiles: [lost]}
      deny: {image: "localhost/benchbox:1", command: [/etc], profiles: [deny]}
"""
CODES_ROWS = (
    Row("up", ps={"seven-1": "exited 7", "zero-1": "exited 0"}),
    Row("logs --no-log-prefix zero", out="out\nerr", theirs={"out": None}),
    Row("logs --no-log-prefix --tail 1 zero", out=None),
    Row("logs nobody", 1, err="no such service: nobody"),
    Row("up --exit-code-from seven", 7),
    Row("up --exit-code-from zero zero", 0),
    Row("up --abort-on-container-exit seven", 7),
    Row("up --abort-on-container-failure", 7),
    Row("run --rm -T zero sh -c 'exit 9'", 9),
    Row("run --rm -T zero echo hello", out="hello"),
    Row("run --rm -T --entrypoint echo zero hi", out="hi"),
    Row("run --rm -T -e A=b zero sh -c 'echo $A'", out="b"),
    Row("run --rm -T -w /tmp zero pwd", out="/tmp"),
    Row("run --rm -T -u 5:6 zero id -u", out="5"),
    Row("run --rm -T zero sh -c 'cat; echo end' ", out="end"),
    Row("run --rm -T zero no-such-program", 127, err="no-such-program", theirs={"code": 1}),
    Row("run --rm -T nobody", 1, err="no such service: nobody"),
    Row("run -T --name {s}-one zero true", 0),
    Row("--profile lost up -d lost", 1, err="no-such-program"),
    Row("wait seven", 7),
    Row("wait nobody", 1),
    Row("down --remove-orphans", ps={"lost-1": "created"}),
    Row("--profile lost down", ps={}),
)

SCALE = f"""
    services:
      web: {{{SLEEP}}}
      one: {{{SLEEP}, container_name: "{{name}}_fixed"}}
"""
SCALE_ROWS = (
    Row("up -d --scale web=3 web", ps={"web-1": "running", "web-2": "running", "web-3": "running"}),
    Row("scale web=1", ps={"web-1": "running"}),
    Row("scale web=2", ps={"web-1": "running", "web-2": "running"}),
    Row("scale nobody=2", 1, err="nobody"),
    Row("scale web=x", 2, err="web=x", theirs={"code": 1, "err": "x"}),
    Row("exec -T --index 2 web hostname -s", 0),
    Row("exec -T --index 9 web true", 1, err="9"),
    Row("up -d --scale web=0 web", ps={}),
    Row("down", ps={}),
)

EXEC = f"""
    services:
      web: {{{SLEEP}, environment: {{A: one}}, working_dir: /tmp, ports: ["127.0.0.1::80"], expose: ["81"]}}
"""
EXEC_ROWS = (
    Row("up -d"),
    Row("exec -T web echo hello", out="hello"),
    Row("exec -T web sh -c 'exit 5'", 5),
    Row("exec -T web sh -c 'kill -9 $$'", 137),
    Row("exec -T web no-such-program", 127, err="no-such-program", theirs={"code": 126, "err": None}),
    Row("exec -T web /etc", 126),
    Row("exec -T -e B=two web sh -c 'echo $A $B'", out="one two"),
    Row("exec -T -w / web pwd", out="/"),
    Row("exec -T web pwd", out="/tmp"),
    Row("exec -T -u 5 web id -u", out="5"),
    Row("exec -T -d web true", 0, out=""),
    Row("exec -T nobody true", 1, err="is not running"),
    Row("port web 81", 1, err="no port 81/tcp", theirs={"code": 0, "err": None}),
    Row("port web 8080", 1, err="no port 8080/tcp for container {s}-web-1"),
    Row("port nobody 80", 1),
    Row("$echo content > file", 0),
    Row("cp file web:/tmp/there", 0),
    Row("exec -T web cat /tmp/there", out="content"),
    Row("cp web:/tmp/there back", 0),
    Row("$cat back", out="content"),
    Row("cp web:/nowhere back", 1, err="/nowhere"),
    Row("cp file back", 2, err="must be in a container", theirs={"code": 1, "err": "unknown copy direction"}),
    Row("cp nobody:/x back", 1),
    Row("config --services", out="web"),
    Row("config --images", out="localhost/benchbox:1"),
    Row("config -q", out=""),
    Row("images -q", 0),
    Row("top web", 0),
    Row("version --short", 0),
    Row("ls -q", 0),
    Row("kill -s KILL web", ps={"web-1": "exited 137"}),
    Row("up -d --no-recreate", ps={"web-1": "running"}),
    Row("up --no-start --force-recreate", ps={"web-1": "created"}),
    Row("down -v", ps={}),
)

DEPENDS = """
    services:
      migrate: {image: "localhost/benchbox:1", command: [sh, -c, "exit ${CODE:-0}"]}
      db:
        image: localhost/benchbox:1
        init: true
        stop_grace_period: 1s
        command: [sleep, '1000']
        healthcheck: {test: [CMD, sh, -c, "exit ${HEALTH:-0}"], interval: 100ms, retries: 2}
      web:
        image: localhost/benchbox:1
        init: true
        stop_grace_period: 1s
        command: [sleep, '1000']
        depends_on:
          db: {condition: service_healthy}
          migrate: {condition: service_completed_successfully}
"""
DEPENDS_ROWS = (
    Row("up -d web", ps={"web-1": "running", "db-1": "running", "migrate-1": "exited 0"}),
    Row("stop", ps={"web-1": "exited 143", "db-1": "exited 143", "migrate-1": "exited 0"}),
    Row("start web", ps={"web-1": "running", "db-1": "running", "migrate-1": "exited 0"}),
    Row("up -d --wait", ps={"web-1": "running", "db-1": "running", "migrate-1": "exited 0"}),
    Row("rm -fsv", ps={}),
    Row("up -d --no-deps web", ps={"web-1": "running"}),
    Row("down", ps={}),
    Row("$echo CODE=3 > .env"),
    Row("up -d", 1, err="didn't complete successfully: exit 3"),
    Row("ps -a --format '{{.Service}} {{.State}}'", out=None),
    Row("down", ps={}),
    Row("$echo HEALTH=1 > .env"),
    Row("up -d", 1, err="is unhealthy"),
    Row("up -d --wait db", 1, err="is unhealthy"),
    Row("down", ps={}),
)

CHANGE = f"""
    services:
      web: {{{SLEEP}, environment: {{V: "${{V:-1}}"}}, volumes: ["data:/data", "/anon"]}}
    volumes: {{data: }}
"""
CHANGE_ROWS = (
    Row("up -d", ps={"web-1": "running"}),
    Row("exec -T web sh -c 'echo a > /data/kept; echo b > /anon/kept; echo c > /lost'"),
    Row("$echo V=2 > .env"),
    Row("exec -T web sh -c 'echo $V'", out="1"),
    Row("up -d", err="Created", theirs={"err": "Recreate"}),
    Row("exec -T web sh -c 'echo $V; cat /data/kept /anon/kept'", out="2\na\nb"),
    Row("exec -T web cat /lost", 1),
    Row("up -d -V --force-recreate"),
    Row("exec -T web cat /data/kept", out="a"),
    Row("exec -T web cat /anon/kept", 1),
    Row("volumes -q", out=None),
    Row("down", ps={}),
    Row("up -d"),
    Row("exec -T web cat /data/kept", out="a"),
    Row("down -v", ps={}),
    Row("up -d"),
    Row("exec -T web cat /data/kept", 1),
    Row("down -v", ps={}),
)

SCENARIOS = {
    "life": (LIFE, LIFE_ROWS),
    "codes": (CODES, CODES_ROWS),
    "scale": (SCALE, SCALE_ROWS),
    "exec": (EXEC, EXEC_ROWS),
    "depends": (DEPENDS, DEPENDS_ROWS),
    "change": (CHANGE, CHANGE_ROWS),
}
