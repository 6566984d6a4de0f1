"""Every definition that is refused, and what it says: what is wrong, where, and what to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from constellation_core import (
    TLS,
    Bind,
    Dependency,
    ExecCheck,
    HTTPCheck,
    InitJob,
    LogOptions,
    Network,
    Placement,
    Port,
    Preference,
    Resources,
    Restart,
    Route,
    Secret,
    Security,
    Service,
    Sticky,
    TCPCheck,
    TCPRoute,
    Tmpfs,
    UpdatePolicy,
    Volume,
)
from constellation_core.model.definitions import DEFINITIONS
from constellation_core.model.explain import explain_validation

HTTP = Port("http", 8080)
SECRET = "hunter2"


def told(make: Callable[[], object]) -> str:
    with pytest.raises(ValidationError) as caught:
        make()
    return explain_validation(caught.value)


def web(**settings: Any) -> Service:
    return Service("web", **{"image": "nginx:1.29", **settings})


def process(**settings: Any) -> Service:
    return Service("web", **{"command": ("serve",), **settings})


Case = tuple[Callable[[], object], str]

OF_A_SERVICE: dict[str, Case] = {
    "nothing to run": (
        lambda: Service("web"),
        "service 'web': it needs image='...' or command=('...',), or both",
    ),
    "empty command": (lambda: process(command=("",)), "service 'web': command is empty"),
    "name": (lambda: Service("We b", image="x"), "Service: name: 'We b' is not a usable name"),
    "name, nearest": (lambda: Service("My_App", image="x"), "try 'my-app'"),
    "no name": (lambda: Service(image="x"), "Service: name: is missing"),  # type: ignore[call-arg]
    "unknown field": (
        lambda: web(replica=3),
        "Service: replica: unknown; did you mean 'replicas'?",
    ),
    "unknown field, far off": (lambda: web(zzz=3), "Service: zzz: unknown; known are name, image"),
    "unnamed argument": (
        lambda: Service("web", "nginx"),  # type: ignore[misc]
        "Service: argument 2: only name can be given without a name; write NAME=VALUE",
    ),
    "text for a list": (
        lambda: process(command="serve"),
        "command: expected a list of values, such as ('a', 'b')",
    ),
    "number for text": (lambda: web(env={"SIZE": 5}), "env.SIZE: expected text, in quotes"),
    "list for a table": (lambda: web(env=["A=1"]), "env: expected a table, such as {'NAME'"),
    "text for a number": (lambda: web(replicas="many"), "replicas: expected a whole number"),
    "fraction": (lambda: web(replicas=1.5), "replicas: expected a whole number"),
    "out of bounds": (lambda: web(replicas=-1), "replicas: must be greater than or equal to 0"),
    "above bounds": (lambda: web(stop_grace=1e9), "stop_grace: must be less than or equal to 3600"),
    "not a number": (lambda: web(stop_grace=float("nan")), "stop_grace: must be"),
    "zero byte": (lambda: process(command=("a\0",)), "command.0: a zero byte cannot be passed"),
    "half a character": (lambda: web(env={"A": "\ud800"}), "env.A: it holds half a character"),
    "variable": (lambda: web(env={"1A": SECRET}), "env.1A: the name of a variable is letters"),
    "entrypoint of a process": (
        lambda: process(entrypoint=("sh",)),
        "entrypoint: replaces that of an image, and there is none; write command=(...)",
    ),
    "empty entrypoint": (lambda: web(entrypoint=()), "entrypoint: needs at least 1"),
    "pull of a process": (lambda: process(pull="always"), "pull: there is no image to pull"),
    "pull": (lambda: web(pull="alway"), "expected 'missing', 'always' or 'never'; did you mean"),
    "relative workdir": (lambda: web(workdir="app"), "workdir: in a container it is an absolute"),
    "empty workdir": (lambda: web(workdir=""), "workdir: it is empty; leave it out"),
    "user": (
        lambda: web(user="1000:"),
        "user: expected USER or USER:GROUP, names or numbers, such",
    ),
    "user as a number": (lambda: web(user=1000), "user: expected text, in quotes"),
    "signal": (
        lambda: web(stop_signal="SIGTRM"),
        "stop_signal: 'SIGTRM' is not a signal of this system, such as 'SIGTERM'; did you mean "
        "'SIGTERM'?",
    ),
    "signal as a number": (lambda: web(stop_signal=15), "stop_signal: expected text, in quotes"),
    "mode": (
        lambda: web(mode="replicatd"),
        "mode: expected 'replicated', 'global' or 'singleton'; did you mean 'replicated'?",
    ),
    "global with replicas": (
        lambda: web(mode="global", replicas=3),
        "replicas: mode='global' runs one on every node that fits; leave replicas out",
    ),
    "several singletons": (
        lambda: web(mode="singleton", replicas=2),
        "replicas: mode='singleton' never runs 2; leave replicas out",
    ),
    "isolated": (lambda: web(when_isolated="halt"), "when_isolated: expected 'keep' or 'stop'"),
    "singleton that is kept": (
        lambda: web(mode="singleton", when_isolated="keep"),
        "when_isolated: a singleton stops when its node is cut off",
    ),
    "singleton beside itself": (
        lambda: web(mode="singleton", update=UpdatePolicy(order="start-first")),
        "update.order: 'start-first' cannot be: it is a singleton, of which two never run; "
        "write 'stop-first'",
    ),
    "fixed port beside itself": (
        lambda: web(ports=(Port("a", 1, host=80),), update=UpdatePolicy(order="start-first")),
        "'start-first' cannot be: port 'a' is the fixed port 80 of the node",
    ),
    "max_per_node of a global": (
        lambda: web(mode="global", placement=Placement(max_per_node=1)),
        "placement.max_per_node: mode='global' never runs two on a node",
    ),
    "preference of a global": (
        lambda: web(mode="global", placement=Placement(prefer=(Preference(regions=("eu",)),))),
        "placement.prefer: mode='global' runs on every node that fits",
    ),
    "apart from itself": (
        lambda: web(placement=Placement(apart_from=("web",))),
        "placement.apart_from: names the service itself; write max_per_node=1",
    ),
    "preferably apart from itself": (
        lambda: web(placement=Placement(prefer=(Preference(apart_from=("web",)),))),
        "placement.apart_from: names the service itself",
    ),
    "not a placement": (lambda: web(placement="eu"), "placement: expected Placement(...)"),
    "not a check": (
        lambda: web(check="http"),
        "check: expected HTTPCheck(...), TCPCheck(...), ExecCheck(...) or DriverCheck()",
    ),
    "not a route": (lambda: web(routes=("a",)), "routes.0: expected Route(...) or TCPRoute(...)"),
    "not a volume": (
        lambda: web(volumes=("data:/data",)),
        "volumes.0: expected Volume(...), Bind(...) or Tmpfs(...)",
    ),
    "not a port": (lambda: web(ports=(80,)), "ports.0: expected Port(...)"),
    "label": (lambda: web(labels={"-a": "b"}), "labels.-a: a label's name is up to 255 letters"),
    "label of ours": (
        lambda: web(labels={"constellation.node": "x"}),
        "those that begin with 'constellation.' are set by Constellation",
    ),
    "tag": (lambda: web(tags=("",)), "tags.0: expected at least 1 characters"),
    "long tag": (lambda: web(tags=("x" * 64,)), "tags.0: expected at most 63 characters"),
    "two at one path": (
        lambda: web(volumes=(Tmpfs("/a"), Volume("a", "/a"))),
        "volumes: two are mounted at '/a'",
    ),
    "unknown network": (
        lambda: web(networks=("publcnet",)),
        "networks.0: unknown network 'publcnet'; did you mean 'publicnet'? One of your own is "
        "Network('publcnet')",
    ),
    "unknown network, far off": (
        lambda: web(networks=("zzz",)),
        "there is backend, publicnet, warp-nat-net and host. One of your own is Network('zzz')",
    ),
    "not a network": (
        lambda: web(networks=(5,)),
        "networks.0: expected the name of a network or Network(...)",
    ),
    "network twice": (
        lambda: web(networks=("backend", "backend")),
        "networks: 'backend' stands there twice",
    ),
    "host and another": (
        lambda: web(networks=("host", "backend")),
        "networks: who is in the node's own network, 'host', can be in no other one",
    ),
    "secret file twice": (
        lambda: web(secrets=("a", Secret("b", target="a"))),
        "secrets: two would be the file /run/secrets/a; give one of them another target=",
    ),
    "variable twice": (
        lambda: web(secrets=(Secret("a", path_env="A_FILE"),), env={"A_FILE": "x"}),
        "secrets: path_env='A_FILE' is set twice, once here and once elsewhere",
    ),
    "not a secret": (
        lambda: web(secrets=(5,)),
        "secrets.0: expected the name of a secret or Secret(...)",
    ),
    "value for a secret": (
        lambda: web(secrets=(f"{SECRET}!",)),
        "secrets.0.name: a secret is named by its file under [agent] secrets_path",
    ),
    "waits for itself": (lambda: web(depends_on=("web",)), "depends_on: it waits for itself"),
    "waits twice": (
        lambda: web(depends_on=("db", Dependency("db"))),
        "depends_on: 'db' stands there twice",
    ),
    "not a dependency": (
        lambda: web(depends_on=(5,)),
        "depends_on.0: expected the name of a service or Dependency(...)",
    ),
    "two jobs of a name": (
        lambda: web(init=(InitJob("a", command=("x",)), InitJob("a", command=("y",)))),
        "init: two jobs are named 'a'",
    ),
    "image of a process's job": (
        lambda: process(init=(InitJob("a", command=("x",), image="b"),)),
        "init: job 'a' has an image, but its service is a process",
    ),
    "two ports of a name": (lambda: web(ports=(HTTP, HTTP)), "two ports are named 'http'"),
    "two ports of a number": (
        lambda: web(ports=(HTTP, Port("b", 8080))),
        "two tcp ports have the number 8080",
    ),
    "two ports of a host's number": (
        lambda: web(ports=(Port("a", 1, host=80), Port("b", 2, host=80))),
        "two tcp ports have the host 80",
    ),
    "host port of a process": (
        lambda: process(ports=(Port("a", 1, host=80),)),
        "port 'a': host=80 is for containers; a process listens on the node itself, at Port('a', "
        "NUMBER)",
    ),
    "unpublished port of a process": (
        lambda: process(ports=(Port("a", 1, publish="none"),)),
        "port 'a': publish='none' is for containers",
    ),
    "host port in the host's network": (
        lambda: web(ports=(Port("a", 1, host=80),), networks=("host",)),
        "port 'a': host=80 has no effect in the network 'host'",
    ),
    "route without a port": (
        lambda: web(routes=(Route("a.b"),)),
        "the http route needs a port; add ports=[Port('http')]",
    ),
    "port of a route": (
        lambda: web(ports=(HTTP,), routes=(Route("a.b", port="htp"),)),
        "the http route uses port 'htp'; there is only 'http' (8080); did you mean 'http'?",
    ),
    "port of a check": (
        lambda: web(ports=(HTTP,), check=TCPCheck(81)),
        "the tcp check uses port 81; there is only 'http' (8080)",
    ),
    "empty check command": (
        lambda: web(check=ExecCheck(("",))),
        "the exec check has an empty command",
    ),
    "several at once": (
        lambda: Service("web", entrypoint=("a",), networks=("host", "backend")),
        "or both; entrypoint: replaces that of an image, and there is none; write command=(...); "
        "networks: who is",
    ),
}

OF_A_PART: dict[str, Case] = {
    "image, empty": (lambda: Service("a", image=""), "image: the image's name is empty"),
    "image, upper case": (
        lambda: Service("a", image="Nginx:1"),
        "'Nginx' is no repository (lower-case letters, digits, single '.', '_' and '-' between "
        "them, parts joined by '/'); try 'nginx:1'",
    ),
    "image, spaces": (lambda: Service("a", image="ng inx"), "'ng inx' is no repository"),
    "image, scheme": (
        lambda: Service("a", image=f"https://me:{SECRET}@r.io/a"),
        "image: an image reference has no scheme: leave out all up to '://'",
    ),
    "image, tag": (lambda: Service("a", image="a:.x"), "a tag is 1 to 128 letters, digits"),
    "image, digest": (
        lambda: Service("a", image=f"me:{SECRET}@r.io/a"),
        "image: this is not an image reference: after '@' comes a digest, such as sha256:",
    ),
    "image, registry": (lambda: Service("a", image="r_.io:5/a"), "'r_.io:5' is no registry"),
    "image, long": (lambda: Service("a", image="a" * 256), "at most 255 characters before its"),
    "port, number": (
        lambda: Port("a", 70_000),
        "Port: number: must be less than or equal to 65535",
    ),
    "port, name": (lambda: Port("Not A"), "Port: name: 'Not A' is not a usable name"),
    "port, protocol": (lambda: Port("a", protocol="tpc"), "protocol: expected 'tcp' or 'udp'; did"),  # type: ignore[arg-type]
    "port, unpublished": (
        lambda: Port("a", 1, host=5, publish="none"),
        "port 'a': host=5 has no effect with publish='none'",
    ),
    "network, ours": (
        lambda: Network("backend"),
        "'backend' is one of Constellation's own networks and leads nowhere else; write networks="
        "('backend',), or give yours another name",
    ),
    "network, ours and open": (
        lambda: Network("publicnet", internal=True),
        "'publicnet' is one of Constellation's own networks and leads outside",
    ),
    "volume, name": (
        lambda: Volume("/srv/data", "/data"),
        "Volume: name: a volume's name is 1 to 128 letters, digits, '_', '.' and '-'",
    ),
    "volume, relative": (lambda: Volume("a", "data"), "path: 'data' is no place to mount at"),
    "volume, root": (lambda: Volume("a", "/"), "path: nothing can be mounted over /"),
    "volume, not plain": (lambda: Volume("a", "/a/../b/"), "not in its plain form; write '/b'"),
    "volume, secrets": (
        lambda: Tmpfs("/run/secrets/x"),
        "path: /run/secrets holds the secrets; list them in secrets=",
    ),
    "bind, absolute": (
        lambda: Bind("/etc/passwd", "/a"),
        "source: '/etc/passwd' is not allowed: a bind is a path below [agent] config_path",
    ),
    "bind, home": (lambda: Bind("~/a", "/a"), "source: '~/a' is not allowed: a bind is a path"),
    "bind, upwards": (lambda: Bind("a/../../b", "/a"), "name a file or folder below config_path"),
    "bind, everything": (lambda: Bind(".", "/a"), "name a file or folder below config_path"),
    "bind, not plain": (lambda: Bind("a//b", "/a"), "not in its plain form; write 'a/b'"),
    "tmpfs, size": (lambda: Tmpfs("/a", size="lots"), "size: expected a size in bytes, or with a"),
    "tmpfs, no size": (lambda: Tmpfs("/a", size=0), "size: a size is more than 0 and at most"),
    "secret, mode": (
        lambda: Secret("a", mode=400),
        "Secret: mode: expected 0o400, 0o440 or 0o444 (octal numbers begin with 0o)",
    ),
    "secret, target": (lambda: Secret("a", target="/x"), "target: a secret is named by its file"),
    "secret, path_env": (lambda: Secret("a", path_env="A-B"), "path_env: the name of a variable"),
    "resources, memory": (
        lambda: Resources(limit_memory="512"),
        'limit_memory: 512 bytes are less than the least, "6M"; is the unit missing?',
    ),
    "resources, memory's unit": (lambda: Resources(limit_memory="1X"), 'such as "512M" or'),
    "resources, truth": (lambda: Resources(limit_memory=True), "expected a size in bytes"),
    "resources, cpu": (lambda: Resources(limit_cpu=0), "limit_cpu: must be greater than 0"),
    "resources, cpu above": (
        lambda: Resources(reserve_cpu=2, limit_cpu=1.5),
        "Resources: reserve_cpu (2) is more than limit_cpu (1.5)",
    ),
    "resources, memory above": (
        lambda: Resources(reserve_memory="1G", limit_memory="512M"),
        "Resources: reserve_memory (1G) is more than limit_memory (512M)",
    ),
    "resources, odd memory above": (
        lambda: Resources(reserve_memory=10_000_001, limit_memory=10_000_000),
        "reserve_memory (10000001 bytes)",
    ),
    "capability": (
        lambda: Security(capabilities=("NET_ADMN",)),
        "capabilities.0: 'NET_ADMN' is no capability of Linux; did you mean 'NET_ADMIN'?",
    ),
    "capability, far off": (
        lambda: Security(capabilities=("fly",)),
        "'fly' is no capability of Linux; for example 'NET_BIND_SERVICE'",
    ),
    "device": (
        lambda: Security(devices=("tun",)),
        "devices.0: expected a device of the node, such",
    ),
    "sysctl": (lambda: Security(sysctls={"x": "1"}), "expected the name of a kernel setting, such"),
    "node": (lambda: Placement(nodes=("a b",)), "nodes.0: 'a b' is not a usable node name"),
    "region": (lambda: Placement(regions=("",)), "regions.0: a region is 1 to 63 letters"),
    "node's tag": (lambda: Placement(tags=("a=b=c",)), "tags.0: a node's tag is WORD or KEY=VALUE"),
    "tag with and without": (
        lambda: Placement(tags=("ssd",), without_tags=("ssd",)),
        "Placement: no node has the tag 'ssd' and has it not; take it out of one of the two",
    ),
    "preferred with and without": (
        lambda: Preference(tags=("ssd",), without_tags=("ssd",)),
        "Preference: no node has the tag 'ssd' and has it not",
    ),
    "spread": (
        lambda: Placement(spread=("rack",)),
        "spread.0: instances are spread over 'node', 'region' or the values of a tag, such as "
        "'tag:rack'",
    ),
    "spread twice": (
        lambda: Placement(spread=("node", "node")),
        "Placement: spread: 'node' stands there twice",
    ),
    "preference of nothing": (
        lambda: Preference(),
        "Preference: a preference names at least one of nodes, regions, tags, without_tags, "
        "apart_from",
    ),
    "preference without weight": (
        lambda: Preference(weight=0, regions=("eu",)),
        "Preference: a weight of 0 prefers nothing; leave the preference out",
    ),
    "update, order": (
        lambda: UpdatePolicy(order="startfirst"),  # type: ignore[arg-type]
        "order: expected 'start-first' or 'stop-first'; did you mean 'start-first'?",
    ),
    "update, on failure": (
        lambda: UpdatePolicy(on_failure="roll-back"),  # type: ignore[arg-type]
        "on_failure: expected 'rollback' or 'pause'; did you mean 'rollback'?",
    ),
    "update, deadline": (
        lambda: UpdatePolicy(healthy_for=10, health_deadline=10),
        "UpdatePolicy: healthy_for (10 s) must be less than health_deadline (10 s)",
    ),
    "update, none at a time": (
        lambda: UpdatePolicy(parallelism=0),
        "parallelism: must be greater than or equal to 1",
    ),
    "dependency": (
        lambda: Dependency("db", until="healty"),  # type: ignore[arg-type]
        "until: expected 'healthy' or 'started'; did you mean 'healthy'?",
    ),
    "init, no command": (lambda: InitJob("a", command=()), "InitJob: command: needs at least 1"),
    "init, empty command": (
        lambda: InitJob("a", command=("",)),
        "InitJob: init job 'a': command is empty",
    ),
    "log, options": (
        lambda: LogOptions(options={"a": SECRET}),
        "LogOptions: options are those of a log driver; name it with driver=",
    ),
    "log, driver": (lambda: LogOptions(driver="A B"), "driver: expected the name of one of the"),
    "route, empty": (lambda: Route(), "Route: a route needs a host, a path or a rule"),
    "route, both": (
        lambda: Route("a.b", rule="Path(`/`)"),
        "Route: a route takes either rule, or host and path, not both",
    ),
    "route, host": (lambda: Route("not a host"), "Route: host: 'not a host' is no host name"),
    "route, one of the hosts": (lambda: Route(("a.b", "b c")), "host: 'b c' is no host name"),
    "route, long host": (lambda: Route("a" * 254), "host: a host name has at most 253 characters"),
    "route, host of another type": (lambda: Route(5), "host: expected text, in quotes"),  # type: ignore[arg-type]
    "route, path": (lambda: Route(path="x"), "path: a path begins with '/' and has no spaces"),
    "route, passthrough": (
        lambda: Route("a.b", tls=TLS(passthrough=True)),
        "tls passthrough is for TCPRoute; an HTTP route ends TLS at the proxy",
    ),
    "route, no port": (
        lambda: Route("a.b", port=0),
        "port: a port is named by its name or by its number, 1 to 65535",
    ),
    "tcp route, no entry point": (lambda: TCPRoute(()), "entry_points: needs at least 1"),
    "tcp route, name": (
        lambda: TCPRoute(("db",), sni="db.example.com"),
        "sni='db.example.com' needs tls=TLS(...): without TLS a client sends no name",
    ),
    "tls, domains": (lambda: TLS(domains=("a b",)), "domains.0: 'a b' is no host name"),
    "sticky": (lambda: Sticky("a cookie"), "Sticky: cookie: a cookie's name is letters, digits"),
    "check, path": (lambda: HTTPCheck("x"), "HTTPCheck: path: a path begins with '/'"),
    "check, interval": (lambda: HTTPCheck(interval=0), "interval: must be greater than 0"),
    "check, statuses": (
        lambda: HTTPCheck(statuses=(399, 200)),
        "statuses: expected the lowest and the highest status, such as (200, 399)",
    ),
    "check, header": (
        lambda: HTTPCheck(headers={"A b": SECRET}),
        "headers.A b: a header's name is letters, digits and some signs",
    ),
    "check, header's value": (
        lambda: HTTPCheck(headers={"A": f"{SECRET}\r\n"}),
        "headers.A: a header's value is one line without control characters",
    ),
    "check, scheme": (
        lambda: HTTPCheck(scheme="htps"),  # type: ignore[arg-type]
        "scheme: expected 'http' or 'https'; did you mean 'https'?",
    ),
    "restart": (
        lambda: Restart("on_failure"),  # type: ignore[arg-type]
        "policy: expected 'always', 'on-failure' or 'never'; did you mean 'on-failure'?",
    ),
}

CASES = {**OF_A_SERVICE, **OF_A_PART}


@pytest.mark.parametrize(("make", "words"), CASES.values(), ids=CASES.keys())
def test_what_is_refused_says_what_is_wrong_and_what_to_write(
    make: Callable[[], object], words: str
) -> None:
    message = told(make)
    assert words in message
    assert "\n" not in message
    assert "pydantic" not in message


@pytest.mark.parametrize("make", [case[0] for case in CASES.values()], ids=CASES.keys())
def test_no_secret_is_in_a_message(make: Callable[[], object]) -> None:
    with pytest.raises(ValidationError) as caught:
        make()
    assert SECRET not in explain_validation(caught.value)
    # Nor where the exception itself is shown, by a user's own tests for example.
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("kind", DEFINITIONS.values(), ids=DEFINITIONS.keys())
def test_a_mistyped_field_of_any_definition_is_named_with_the_nearest(kind: type) -> None:
    names = [field.name for field in fields(kind) if field.name != "kind"]
    wrong = names[-1] + "x"
    with pytest.raises(ValidationError) as caught:
        kind(**{wrong: 1})
    assert f"{wrong}: unknown; did you mean {names[-1]!r}?" in explain_validation(caught.value)


def test_a_part_that_is_written_as_a_table_says_where_it_is_wrong() -> None:
    message = told(lambda: web(ports=[{"name": "http", "nmber": 80}]))
    assert message == "Service: ports.0.nmber: unknown; did you mean 'number'?"
    message = told(lambda: web(check={"kind": "http", "path": "x"}))
    assert message.startswith("Service: check.path: a path begins with")
    message = told(lambda: web(check={"kind": "ftp"}))
    assert message.startswith("Service: check: expected HTTPCheck(...)")


def test_parts_of_the_plugin_authors_types_are_explained_too() -> None:
    from constellation_core import PublishedService

    message = told(lambda: PublishedService("web", nam="x"))  # type: ignore[call-arg]
    assert message == "PublishedService: nam: unknown"
