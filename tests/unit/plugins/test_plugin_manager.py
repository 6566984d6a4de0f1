"""What the plugin manager promises in hookspecs.py: calling, isolation, counting."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from constellation_core import hookimpl
from constellation_core.hookspecs import hookspec
from constellation_core.model.node import Node
from constellation_core.plugins.discovery import Installed, PluginLoadError
from constellation_core.plugins.manager import ERRORS_IN_A_ROW, PluginManager, answers_by_plugin

NODE = Node("node-a", "127.0.0.1", 7946)


def plugin(**functions: Any) -> SimpleNamespace:
    return SimpleNamespace(**{name: hookimpl(function) for name, function in functions.items()})


def manager_of(**plugins: Any) -> PluginManager:
    manager = PluginManager()
    for name, each in plugins.items():
        manager.register(name, each)
    return manager


def raises(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("on purpose")


def test_a_hook_gets_the_arguments_it_names_and_no_others() -> None:
    heard: list[object] = []
    manager = manager_of(
        a=plugin(node_updated=lambda previous: heard.append(previous)),
        b=plugin(node_updated=lambda: heard.append("b")),
    )
    for name in manager.active:
        manager.call(name, "node_updated", node=NODE, previous="before")
    assert heard == ["before", "b"]


def test_plugins_are_called_in_the_order_of_enabled() -> None:
    manager = manager_of(
        second=plugin(register_hookspecs=lambda: ["s"]),
        first=plugin(register_hookspecs=lambda: ["f"]),
    )
    assert list(answers_by_plugin(manager, "register_hookspecs", lambda _: {})) == [
        "second",
        "first",
    ]


def test_a_contribution_that_raises_takes_its_plugin_out_and_no_other() -> None:
    told: list[tuple[str, str]] = []
    manager = manager_of(bad=plugin(config_model=raises), good=plugin(config_model=lambda: dict))
    manager.on_failed = lambda name, reason: told.append((name, reason))
    answers = answers_by_plugin(manager, "config_model", lambda _: {})
    assert answers == {"good": dict}
    assert manager.active == ["good"]
    assert told == [("bad", "config_model raised RuntimeError: on purpose")]
    assert manager.call("bad", "config_model") is None


def test_a_contribution_from_a_generator_that_raises_midway_is_caught() -> None:
    def routes(context: object) -> Any:
        yield "one"
        raise ValueError("midway")

    manager = manager_of(bad=plugin(api_routes=routes))
    assert manager.contribute("bad", "api_routes", context=None) is None
    assert manager.states()[0].failed == "api_routes raised ValueError: midway"


def test_an_async_contribution_is_refused_without_a_warning() -> None:
    async def config_model() -> None: ...

    manager = manager_of(bad=plugin(config_model=config_model))
    assert manager.contribute("bad", "config_model") is None
    assert "must not be async" in str(manager.states()[0].failed)


def test_the_first_answer_decides_and_a_raise_is_passed_over() -> None:
    manager = manager_of(
        silent=plugin(choose_driver=lambda: None),
        bad=plugin(choose_driver=raises),
        says_docker=plugin(choose_driver=lambda drivers: drivers[1]),
        never_asked=plugin(choose_driver=raises),
    )
    answer = manager.decide("choose_driver", service=None, drivers=["process", "docker"])
    assert answer == ("says_docker", "docker")
    by_name = {state.name: state for state in manager.states()}
    assert by_name["bad"].errors == 1
    assert by_name["never_asked"].errors == 0


def test_errors_in_a_row_take_a_plugin_out_and_a_success_forgives() -> None:
    manager = manager_of(shaky=plugin(node_failed=lambda: None))
    for _ in range(ERRORS_IN_A_ROW - 1):
        manager.count_error("shaky", "node_failed", ValueError("x"))
    manager.count_success("shaky")
    for _ in range(ERRORS_IN_A_ROW - 1):
        manager.count_error("shaky", "node_failed", ValueError("x"))
    assert manager.active == ["shaky"]
    manager.count_error("shaky", "node_failed", ValueError("the last straw"))
    assert manager.active == []
    assert "node_failed raised ValueError: the last straw" in str(manager.states()[0].failed)


def installed(name: str, target: str, **other: str) -> Installed:
    values = {"distribution": f"dist-{name}", "version": "1", "summary": "", "requires_core": ""}
    return Installed(name=name, target=target, **{**values, **other})


@pytest.mark.parametrize(
    ("candidates", "reason"),
    [
        ([], "not installed"),
        (
            [
                installed("x", "json", distribution="one"),
                installed("x", "json", distribution="two"),
            ],
            "offered by several distributions (one, two)",
        ),
        ([installed("x", "json", requires_core=">=99")], "needs constellation-core >=99"),
        ([installed("x", "json")], "could not be read"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_says_why(candidates: list[Installed], reason: str) -> None:
    manager = PluginManager()
    manager.load(["x"], candidates)
    assert reason in str(manager.states()[0].failed)


def test_plugins_that_are_unhashable_or_equal_to_all_are_plugins_all_the_same() -> None:
    class Odd:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

        @hookimpl
        def config_model(self) -> type:
            return int

    manager = manager_of(one=Odd(), two=Odd())
    assert answers_by_plugin(manager, "config_model", lambda _: {}) == {"one": int, "two": int}


def test_an_object_without_hooks_is_refused() -> None:
    with pytest.raises(PluginLoadError, match="no hook functions"):
        PluginManager().register("empty", SimpleNamespace())


def test_a_hook_with_an_argument_that_the_spec_lacks_is_refused() -> None:
    with pytest.raises(PluginLoadError, match="colour"):
        PluginManager().register("bad", plugin(node_failed=lambda node, colour: None))


def test_an_unknown_hook_is_reported_with_the_nearest_known_one() -> None:
    manager = manager_of(typo=plugin(node_faild=lambda: None))
    manager.load([])
    assert manager.states()[0].failed == "unknown hook 'node_faild'; did you mean 'node_failed'?"


class ProviderSpecs:
    @hookspec
    def provide(self, zone: str) -> str:
        """A hook that one plugin defines for others."""
        raise NotImplementedError


def test_a_plugin_can_define_hooks_that_others_implement() -> None:
    manager = manager_of(
        # It stands before the plugin that defines its hook.
        fits=plugin(provide=lambda zone: f"fits {zone}"),
        broken=plugin(provide=raises),
        owner=plugin(register_hookspecs=lambda: [ProviderSpecs]),
    )
    manager.load([])
    assert manager.call_extension("provide", zone="example.com") == {"fits": "fits example.com"}
    assert {state.name: state.errors for state in manager.states()}["broken"] == 1


def test_an_implementation_that_does_not_fit_a_plugins_spec_costs_itself_only() -> None:
    manager = manager_of(
        owner=plugin(register_hookspecs=lambda: [ProviderSpecs]),
        misfit=plugin(provide=lambda area: area),
        fits=plugin(provide=lambda zone: zone),
    )
    manager.load([])
    assert manager.active == ["owner", "fits"]
    assert manager.call_extension("provide", zone="z") == {"fits": "z"}


def test_calling_a_hook_that_nobody_defined_is_an_error() -> None:
    with pytest.raises(ValueError, match="'nothing'"):
        PluginManager().call_extension("nothing")
