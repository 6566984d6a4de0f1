"""Definitions as data: one form for one meaning, back again, and hashes that say what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from constellation_core import (
    TLS,
    Bind,
    Dependency,
    DriverCheck,
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
from constellation_core.model.canonical import (
    MAX_BYTES,
    SCHEMA,
    DefinitionError,
    definition_hash,
    from_canonical,
    instance_hash,
    to_canonical,
    to_plain,
)
from constellation_core.model.check import AnyCheck
from constellation_core.model.definitions import DEFINITIONS
from constellation_core.model.effects import IN_PLACE, RECREATES
from constellation_core.model.route import AnyRoute
from constellation_core.model.volumes import AnyMount

LABELS = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z]", fullmatch=True)
VARIABLES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
WORDS = st.lists(TEXT, min_size=1, max_size=3).filter(lambda words: words[0] != "")
PATHS = st.from_regex(r"/[a-z]{1,6}(/[a-z]{1,6})?", fullmatch=True)
SECONDS = st.floats(0.001, 3000) | st.integers(1, 3000)
SIZES = st.integers(10 * 1024**2, 2**40) | st.sampled_from(["64M", "1.5G", "20mib"])
CPUS = st.floats(0.01, 64)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def several(strategy: st.SearchStrategy[Any], **how: Any) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=3, **how)


PORTS = st.builds(
    Port,
    LABELS,
    st.integers(0, 65_535),
    protocol=st.sampled_from(["tcp", "udp"]),
)
ROUTES = st.builds(
    Route,
    st.sampled_from(["a.example.com", ("b.{domain}", "c.{domain}")]),
    path=maybe(PATHS),
    priority=maybe(st.integers(1, 1000)),
    entry_points=several(LABELS),
    tls=maybe(st.builds(TLS, resolver=maybe(LABELS))),
    sticky=maybe(st.builds(Sticky, secure=st.booleans(), max_age=st.integers(0, 100))),
    balance_check=st.booleans(),
) | st.builds(TCPRoute, st.lists(LABELS, min_size=1, max_size=2), priority=maybe(st.integers(1, 9)))
TIMING: dict[str, st.SearchStrategy[Any]] = {"interval": SECONDS, "rise": st.integers(1, 100)}
CHECKS = st.one_of(
    st.builds(HTTPCheck, PATHS, headers=st.dictionaries(VARIABLES, LABELS, max_size=2), **TIMING),
    st.builds(TCPCheck, **TIMING),
    st.builds(ExecCheck, WORDS, **TIMING),
    st.builds(DriverCheck, **TIMING),
)
MOUNTS = st.one_of(
    st.builds(Volume, LABELS, PATHS, read_only=st.booleans()),
    st.builds(Bind, LABELS, PATHS, read_only=st.booleans()),
    st.builds(Tmpfs, PATHS, size=maybe(SIZES)),
)
NETWORKS = st.sampled_from(["backend", "publicnet"]) | st.builds(
    Network, LABELS.map("x-".__add__), internal=st.booleans()
)
SECRETS = LABELS | st.builds(
    Secret, LABELS, mode=st.sampled_from([0o400, 0o440]), path_env=maybe(VARIABLES.map("S".__add__))
)
PREFERENCES = st.builds(
    Preference,
    weight=st.integers(-100, -1) | st.integers(1, 100),
    regions=st.lists(LABELS, min_size=1, max_size=2),
)
PLACEMENTS = st.builds(
    Placement,
    nodes=several(LABELS),
    regions=several(LABELS),
    tags=several(LABELS),
    spread=several(st.sampled_from(["node", "region", "tag:rack"]), unique=True),
    prefer=several(PREFERENCES),
)
RESOURCES = st.builds(
    Resources,
    reserve_memory=maybe(st.integers(6 * 1024**2, 10 * 1024**2)),
    limit_memory=maybe(SIZES),
    limit_cpu=maybe(CPUS),
    limit_pids=maybe(st.integers(1, 1000)),
)
SECURITY = st.builds(
    Security,
    read_only_root=st.booleans(),
    capabilities=several(st.sampled_from(["NET_ADMIN", "cap_chown", "ALL"])),
    sysctls=st.dictionaries(st.sampled_from(["net.ipv4.ip_forward", "kernel.x"]), TEXT, max_size=1),
)
JOBS = st.builds(InitJob, LABELS, command=WORDS, run=st.sampled_from(["instance", "revision"]))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "image": st.sampled_from(["nginx", "r.example.com:5000/a/b:1@sha256:" + "0" * 64]),
    "command": st.just(()) | WORDS,
    "env": st.dictionaries(VARIABLES.map("E".__add__), TEXT, max_size=3),
    "secrets": several(
        SECRETS,
        unique_by=(
            lambda each: each if isinstance(each, str) else each.name,
            # One that sets no variable clashes with none.
            lambda each: getattr(each, "path_env", None) or id(each),
        ),
    ),
    "ports": st.lists(
        PORTS,
        min_size=1,
        max_size=3,
        unique_by=(lambda each: each.name, lambda each: each.number or id(each)),
    ),
    "networks": several(NETWORKS, unique_by=lambda each: getattr(each, "name", each)),
    "volumes": several(MOUNTS, unique_by=lambda each: each.path),
    "routes": several(ROUTES),
    "check": maybe(CHECKS),
    "restart": st.builds(Restart, st.sampled_from(["always", "never"]), delay=SECONDS),
    "stop_grace": st.floats(-0.0, 3600),
    "mode": st.sampled_from(["replicated", "singleton"]),
    "entrypoint": maybe(WORDS),
    "pull": st.sampled_from(["missing", "always", "never"]),
    "workdir": maybe(PATHS),
    "user": maybe(st.sampled_from(["app", "1000:1000"])),
    "stop_signal": maybe(st.sampled_from(["SIGINT", "quit"])),
    "replicas": st.integers(0, 1),
    "when_isolated": st.sampled_from([None, "stop"]),
    "weight": st.integers(0, 1000),
    "driver": maybe(LABELS),
    "placement": PLACEMENTS,
    "resources": RESOURCES,
    "security": SECURITY,
    "update": st.builds(UpdatePolicy, on_failure=st.sampled_from(["rollback", "pause"])),
    "depends_on": several(
        LABELS | st.builds(Dependency, LABELS, until=st.sampled_from(["healthy", "started"])),
        unique_by=lambda each: getattr(each, "service", each),
    ),
    "init": several(JOBS, unique_by=lambda each: each.name),
    "log": maybe(st.builds(LogOptions, max_size=SIZES)),
    "labels": st.dictionaries(LABELS, TEXT, max_size=2),
    "tags": several(LABELS),
}
SERVICES = st.builds(Service, LABELS.map("a-".__add__), **FIELDS)


@given(SERVICES)
def test_a_definition_comes_back_as_it_was(service: Service) -> None:
    data = to_canonical(service)
    again = from_canonical(data)
    assert again == service
    assert to_canonical(again) == data
    assert instance_hash(again) == instance_hash(service)
    assert definition_hash(again) == definition_hash(service)
    # One line of ASCII, sorted, whatever the values hold.
    assert data.isascii()
    assert not set(data) & set(b"\n\r\t")
    form = json.loads(data)
    assert data == json.dumps(form, sort_keys=True, separators=(",", ":")).encode()
    assert form["schema"] == SCHEMA


@given(SERVICES, SERVICES, st.data())
def test_equal_definitions_and_no_others_have_equal_forms_and_hashes(
    one: Service, another: Service, data: st.DataObject
) -> None:
    # One that differs in a single field at most: two drawn at random differ in most.
    name = data.draw(st.sampled_from(["env", "check", "placement", "log", "tags", "resources"]))
    other = replace(one, **{name: getattr(another, name)})
    assert (one == other) == (to_canonical(one) == to_canonical(other))
    assert (one == other) == (definition_hash(one) == definition_hash(other))


@given(SERVICES, st.randoms(use_true_random=False))
def test_the_order_in_which_tables_were_written_does_not_matter(service: Service, rng: Any) -> None:
    def shuffled(table: Mapping[str, str]) -> dict[str, str]:
        items = list(table.items())
        rng.shuffle(items)
        return dict(items)

    other = replace(service, env=shuffled(service.env), labels=shuffled(service.labels))
    assert to_canonical(other) == to_canonical(service)


def test_what_has_its_default_is_not_written() -> None:
    assert to_plain(Service("web", image="nginx")) == {"image": "nginx", "name": "web"}
    service = Service(
        "web",
        image="nginx",
        ports=(Port("http", 80),),
        secrets=("a",),
        depends_on=("b",),
        networks=("publicnet",),
        check=HTTPCheck(),
        routes=(Route("a.b"),),
        restart=Restart(),
        update=UpdatePolicy(),
        stop_grace=10,
    )
    assert to_plain(service) == {
        "check": {"kind": "http"},
        "depends_on": [{"service": "b"}],
        "image": "nginx",
        "name": "web",
        "networks": [{"name": "publicnet"}],
        "ports": [{"name": "http", "number": 80}],
        "routes": [{"host": "a.b", "kind": "http"}],
        "secrets": [{"name": "a"}],
    }


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"secrets": ("a",)}, {"secrets": (Secret("a"),)}),
        ({"depends_on": ("b",)}, {"depends_on": (Dependency("b"),)}),
        ({"networks": ("backend",)}, {"networks": (Network("backend", internal=True),)}),
        ({"volumes": (Tmpfs("/a", size="1K"),)}, {"volumes": (Tmpfs("/a", size=1024),)}),
        ({"stop_signal": "int"}, {"stop_signal": "SIGINT"}),
        (
            {"security": Security(capabilities=("cap_kill",))},
            {"security": {"capabilities": ["KILL"]}},
        ),
        ({"check": TCPCheck(80)}, {"check": TCPCheck(80), "ports": (Port("p80", 80),)}),
        ({"stop_grace": 0.0}, {"stop_grace": -0.0}),
    ],
)
def test_what_means_the_same_has_the_same_form(short: Any, long: Any) -> None:
    one, other = (Service("a", image="x", **settings) for settings in (short, long))
    assert one == other
    assert to_canonical(one) == to_canonical(other)


# Stored definitions mean what they meant when they were stored: a change of a default, of a name
# or of the hash shows here. See the module's text before changing a line.
GOLDEN = Service(
    "web",
    image="nginx:1.29",
    env={"B": "ä", "A": "1"},
    ports=(Port("http", 80),),
    routes=(Route("www.{domain}"),),
    check=HTTPCheck("/health"),
    secrets=("token",),
    volumes=(Bind("web/nginx.conf", "/etc/nginx/nginx.conf"), Tmpfs("/tmp", size="1M")),
    resources=Resources(limit_memory="64M", reserve_cpu=0.5),
    stop_grace=5,
)
GOLDEN_FORM = (
    rb'{"schema":1,"service":{"check":{"kind":"http","path":"/health"},"env":{"A":"1","B":"\u00e4"},'
    rb'"image":"nginx:1.29","name":"web","ports":[{"name":"http","number":80}],"resources":'
    rb'{"limit_memory":67108864,"reserve_cpu":0.5},"routes":[{"host":"www.{domain}","kind":"http"}],'
    rb'"secrets":[{"name":"token"}],"stop_grace":5.0,"volumes":[{"kind":"bind","path":'
    rb'"/etc/nginx/nginx.conf","source":"web/nginx.conf"},{"kind":"tmpfs","path":"/tmp","size":'
    rb"1048576}]}}"
)


def test_the_form_of_an_earlier_version_is_still_the_form() -> None:
    assert to_canonical(GOLDEN) == GOLDEN_FORM
    assert from_canonical(GOLDEN_FORM) == GOLDEN
    assert definition_hash(GOLDEN) == "d6b1c308e1abcffa80bde93f8e74bdf1"
    assert instance_hash(GOLDEN) == "82c624105c17761dfca1a79a68783e75"


def test_no_default_has_changed_within_this_schema() -> None:
    found = {
        name: {each.name: _default(each) for each in fields(kind) if each.name != "kind"}
        for name, kind in DEFINITIONS.items()
    }
    known = json.loads(Path(__file__).with_name("definition_defaults.json").read_text())
    assert json.loads(json.dumps(found, default=lambda value: vars(value))) == known


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return "required" if field.default is MISSING else field.default


def test_every_field_of_a_service_says_what_its_change_costs() -> None:
    names = set()
    for field in fields(Service):
        if field.name == "resources":
            names |= {f"resources.{each.name}" for each in fields(Resources)}
        else:
            names.add(field.name)
    assert names == IN_PLACE | RECREATES
    assert not IN_PLACE & RECREATES


BARE = Service("web", image="nginx", ports=(Port("http", 80),))
CHANGES: dict[str, Any] = {
    "check": HTTPCheck("/other"),
    "command": ("other",),
    "depends_on": ("other",),
    "driver": "other",
    "entrypoint": ("other",),
    "env": {"OTHER": "1"},
    "image": "other",
    "init": (InitJob("other", command=("x",)),),
    "labels": {"other": "1"},
    "log": LogOptions(max_files=9),
    "mode": "global",
    "name": "other",
    "networks": ("backend",),
    "placement": Placement(regions=("other",)),
    "ports": (Port("http", 80, host=81),),
    "pull": "always",
    "replicas": 9,
    "resources.limit_cpu": 9.0,
    "resources.limit_memory": 2**30,
    "resources.limit_pids": 9,
    "resources.reserve_cpu": 0.25,
    "resources.reserve_memory": 2**24,
    "restart": Restart("never"),
    "routes": (Route("other"),),
    "secrets": (Secret("other"),),
    "security": Security(read_only_root=True),
    "stop_grace": 9.0,
    "stop_signal": "SIGINT",
    "tags": ("other",),
    "update": UpdatePolicy(parallelism=9),
    "user": "other",
    "volumes": (Volume("other", "/other"),),
    "weight": 9,
    "when_isolated": "stop",
    "workdir": "/other",
}


@pytest.mark.parametrize("path", sorted(IN_PLACE | RECREATES))
@pytest.mark.parametrize(
    "before", [Service("web", image="nginx", ports=(Port("http", 80),)), GOLDEN]
)
def test_a_change_recreates_instances_only_where_it_must(before: Service, path: str) -> None:
    name, _, inner = path.partition(".")
    value = CHANGES[path]
    if inner:
        value = replace(before.resources, **{inner: value})
    after = replace(before, **{name: value})
    assert definition_hash(after) != definition_hash(before)
    assert (instance_hash(after) != instance_hash(before)) == (path in RECREATES)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", 'a table with "schema" and "service"'),
        (b'{"schema":1}', 'a table with "schema" and "service"'),
        (b'{"schema":1,"service":[]}', 'a table with "schema" and "service"'),
        (b'{"service":{}}', 'the number of its "schema"'),
        (b'{"schema":true,"service":{}}', 'the number of its "schema"'),
        (b'{"schema":0,"service":{}}', 'the number of its "schema"'),
        (b'{"schema":1,"service":{"name":"a","name":"b"}}', "a field stands twice"),
        (
            b'{"schema":1,"service":{"name":"a","image":"x","stop_grace":NaN}}',
            "number that is none",
        ),
        (b'{"schema":1,"service":{"name":"a"}}', "the definition of 'a': service 'a': it needs"),
        (b'{"schema":1,"service":{"name":"A","image":"x"}}', "try 'a'"),
        (
            b'{"schema":2,"service":{"name":"web","new":1}}',
            "the definition of 'web' is written in schema 2, and this version of Constellation "
            "reads up to 1: upgrade it here",
        ),
        (
            b'{"schema":1,"service":{"name":"web","image":"x","teleport":true}}',
            "the definition of 'web' has the field 'teleport', which this version of Constellation "
            "does not know: a newer one wrote it; upgrade it here",
        ),
        (
            b'{"schema":1,"service":{"name":"web","image":"x","update":{"a":1,"b":2}}}',
            "has the fields 'update.a', 'update.b', which",
        ),
        (
            b'{"schema":1,"service":{"name":"web","image":"x","ports":[{"name":"a","b":1}]}}',
            "the field 'ports.0.b', which",
        ),
        (b'{"schema":1,"note":"","service":{"name":"web","image":"x"}}', "the field 'note', which"),
        (
            b'{"schema":1,"service":{"name":"web","image":"x","check":{"kind":"grpc"}}}',
            "check: expected HTTPCheck(...), TCPCheck(...)",
        ),
    ],
)
def test_what_is_no_definition_or_a_newer_one_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        from_canonical(data)
    assert words in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([each.name for each in fields(Service)] + ["kind", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_comes_is_a_definition_or_a_definition_error(plain: Any) -> None:
    data = json.dumps({"schema": 1, "service": plain})
    try:
        service = from_canonical(data)
    except DefinitionError:
        return
    assert from_canonical(to_canonical(service)) == service


@given(st.binary(max_size=40))
def test_bytes_that_mean_nothing_are_a_definition_error(data: bytes) -> None:
    with pytest.raises(DefinitionError):
        from_canonical(data)


def test_a_definition_that_no_store_would_take_is_refused() -> None:
    with pytest.raises(DefinitionError, match="put long texts into files below config_path"):
        to_canonical(Service("web", image="x", env={"A": "x" * MAX_BYTES}))


def test_a_secret_has_no_place_for_a_value() -> None:
    # Names of files and of a variable, and a mode.
    assert [each.name for each in fields(Secret)] == ["name", "target", "mode", "path_env"]
    value = "s3cr3t value, as people have them/+="
    for field in ("name", "target", "path_env", "value"):
        with pytest.raises(ValidationError) as caught:
            Secret(**{"name": "a", field: value})  # type: ignore[arg-type]
        assert value not in str(caught.value)
    service = Service("web", image="nginx", secrets=("token",))
    assert to_plain(service)["secrets"] == [{"name": "token"}]


def test_the_round_trips_cover_every_kind_of_part() -> None:
    kinds = {
        kind for union in (AnyCheck, AnyRoute, AnyMount) for kind in get_args(get_args(union)[0])
    }
    checks = {HTTPCheck, TCPCheck, ExecCheck, DriverCheck}
    assert kinds == checks | {Route, TCPRoute, Volume, Bind, Tmpfs}
    assert {each.name for each in fields(Service)} == {"name", *FIELDS}
