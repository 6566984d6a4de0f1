"""The enabled plugins, and calls to their hooks that keep one plugin's failure its own."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pluggy

from constellation_core import hookspecs
from constellation_core.plugins.discovery import (
    Installed,
    PluginLoadError,
    installed_plugins,
    load_plugin,
)
from constellation_core.plugins.guard import PluginRaisedError, explain, place
from constellation_core.plugins.stalls import StalledError, StallGuard

log = logging.getLogger("constellation.plugins")

ERRORS_IN_A_ROW = 10
"""So many errors in events and decisions, with no success between, take a plugin out."""

START_LIMIT = 30.0
"""Seconds for which a *contribute* hook may hold up the agent that starts."""


@dataclass(slots=True)
class _Errors:
    total: int = 0
    in_a_row: int = 0
    last: str = ""


@dataclass(frozen=True, slots=True)
class PluginState:
    """How one enabled plugin fares.

    Attributes:
        name: the plugin's name.
        failed: why it is out of use, or ``None`` while it is in use.
        errors: how often one of its hooks raised since the start.
        last_error: the last of these, with the hook's name.
    """

    name: str
    failed: str | None
    errors: int
    last_error: str


class PluginManager:
    """Loads plugins and calls their hooks, each plugin by itself.

    Hooks go through pluggy, which matches arguments by name and checks them against the
    specs. Every plugin has a pluggy manager to itself, so that neither what one raises nor
    what one is (unhashable, equal to everything ...) reaches another.
    """

    def __init__(self) -> None:
        self._specs: list[Any] = [hookspecs]
        self._enabled: list[str] = []
        self._managers: dict[str, pluggy.PluginManager] = {}
        self._failed: dict[str, str] = {}
        self._errors: dict[str, _Errors] = {}
        self.installed: Sequence[Installed] = ()
        """What there was to choose from at :meth:`load`."""
        self.stalls = StallGuard()
        """Watches over hooks once an agent has installed it."""
        self.on_failed: Callable[[str, str], None] | None = None
        """Called with name and reason when a plugin is taken out of use."""

    @property
    def active(self) -> Sequence[str]:
        """Names of the plugins in use, in the order of ``enabled``."""
        return [name for name in self._enabled if name not in self._failed]

    def states(self) -> Sequence[PluginState]:
        """All enabled plugins, in order."""
        result = []
        for name in self._enabled:
            errors = self._errors.get(name, _Errors())
            result.append(PluginState(name, self._failed.get(name), errors.total, errors.last))
        return result

    def load(
        self,
        enabled: Sequence[str],
        installed: Sequence[Installed] | None = None,
        *,
        require_core: bool = True,
    ) -> None:
        """Import and register the plugins called ``enabled``; those that fail are marked so.

        Args:
            enabled: names, in order.
            installed: what there is; by default, what the environment has.
            require_core: whether a plugin for another version of the core fails.
        """
        if installed is None:
            installed = installed_plugins() if enabled else []
        self.installed = tuple(installed)
        for name in enabled:
            if name in self._enabled:
                continue
            self._enabled.append(name)
            try:
                self.register(name, load_plugin(name, installed, require_core=require_core))
            except PluginLoadError as error:
                self.fail(name, str(error))
        self._add_plugin_hookspecs()
        self._refuse_unknown_hooks()

    def register(self, name: str, plugin: Any) -> None:
        """Take ``plugin`` into use under ``name``; for tests, also without an entry point.

        Raises:
            PluginLoadError: when a hook of it does not fit its spec, or it has none.
        """
        if name not in self._enabled:
            self._enabled.append(name)
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        for namespace in self._specs:
            manager.add_hookspecs(namespace)
        try:
            manager.register(plugin, name)
            if not manager.get_hookcallers(plugin):
                raise PluginLoadError(
                    "it has no hook functions: mark them with @hookimpl from constellation_core"
                )
        except pluggy.PluginValidationError as error:
            raise PluginLoadError(_one_line(error)) from error
        except PluginLoadError:
            raise
        except BaseException as error:
            raise PluginLoadError(f"registering it failed: {explain(error)}") from error
        self._managers[name] = manager

    def fail(self, name: str, reason: str) -> None:
        """Take a plugin out of use. Of several reasons the first one is kept."""
        if name in self._failed:
            return
        self._failed[name] = reason
        self._managers.pop(name, None)
        log.error("plugin %s failed: %s", name, reason)
        if self.on_failed is not None:
            self.on_failed(name, reason)

    def implements(self, name: str, hook: str) -> bool:
        """Whether the plugin is in use and has the hook."""
        caller = self._caller(name, hook)
        return caller is not None and bool(caller.get_hookimpls())

    def call(self, name: str, hook: str, limit: float | None = None, /, **arguments: Any) -> Any:
        """Call one plugin's hook; what it raises passes through, as an ``Exception``.

        Returns:
            What it returned (an awaitable, where it is async), or ``None`` without the hook.

        Raises:
            PluginRaisedError: in place of ``SystemExit`` and the like, and when it holds up the
                event loop for more than ``limit`` seconds; see
                :mod:`constellation_core.plugins.stalls`.
        """
        caller = self._caller(name, hook)
        if caller is None:
            return None
        try:
            with self.stalls.watching(limit):
                results = caller(**arguments)
        except Exception:
            raise
        except BaseException as error:
            raise PluginRaisedError(explain(error)) from error
        result = (results[0] if results else None) if isinstance(results, list) else results
        return self.stalls.watched(result) if inspect.iscoroutine(result) else result

    def contribute(self, name: str, hook: str, /, **arguments: Any) -> Any:
        """Call one plugin's *contribute* hook; one that raises makes its plugin failed."""
        try:
            # What it takes to start may be slow to import, and nobody counts on this agent yet.
            result = self.call(name, hook, START_LIMIT, **arguments)
            if inspect.isawaitable(result):
                _close(result)
                raise TypeError("the hook must not be async")
            # Iterables are read here, so that one that raises does so inside.
            return list(result) if isinstance(result, Iterator) else result
        except BaseException as error:
            log.debug("plugin %s: %s", name, hook, exc_info=error)
            self.fail(name, f"{hook} raised {explain(error)}")
            return None

    def decide(self, hook: str, /, **arguments: Any) -> tuple[str, Any] | None:
        """Ask plugin after plugin; the first answer that is not ``None``, with who gave it."""
        for name in self.active:
            if not self.implements(name, hook):
                continue
            try:
                answer = self.call(name, hook, **arguments)
                if inspect.isawaitable(answer):
                    _close(answer)
                    raise TypeError("the hook must not be async")
            except Exception as error:
                self.count_error(name, hook, error)
                continue
            self.count_success(name)
            if answer is not None:
                return name, answer
        return None

    def call_extension(self, hook: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a hook that a plugin defined, on all; answers by plugin, without those that raised.

        Raises:
            ValueError: when nobody has defined such a hook.
        """
        if not any(hasattr(namespace, hook) for namespace in self._specs[1:]):
            raise ValueError(f"no plugin has defined a hook {hook!r}")
        answers = {}
        for name in self.active:
            if not self.implements(name, hook):
                continue
            try:
                answers[name] = self.call(name, hook, **arguments)
            except Exception as error:
                self.count_error(name, hook, error)
        return answers

    def count_error(self, name: str, hook: str, error: BaseException) -> None:
        """Note that a hook raised; too many in a row take the plugin out."""
        errors = self._errors.setdefault(name, _Errors())
        errors.total += 1
        errors.in_a_row += 1
        errors.last = f"{hook} raised {explain(error)}"
        stalled = isinstance(error.__cause__, StalledError)
        log.warning(
            "plugin %s: %s, at %s (%d in a row)", name, errors.last, place(error), errors.in_a_row
        )
        log.debug("plugin %s: %s", name, hook, exc_info=error)
        if stalled:
            # Not once more: every time costs the whole agent seconds of silence.
            self.fail(name, errors.last)
        elif errors.in_a_row >= ERRORS_IN_A_ROW:
            self.fail(name, f"{errors.in_a_row} errors in a row; the last: {errors.last}")

    def count_success(self, name: str) -> None:
        """Note that a hook went well: errors count anew."""
        if name in self._errors:
            self._errors[name].in_a_row = 0

    def _caller(self, name: str, hook: str) -> pluggy.HookCaller | None:
        manager = self._managers.get(name)
        return getattr(manager.hook, hook, None) if manager is not None else None

    def _add_plugin_hookspecs(self) -> None:
        for name in self.active:
            namespaces = self.contribute(name, "register_hookspecs")
            if namespaces is None:
                continue
            if not isinstance(namespaces, list | tuple):
                kind = type(namespaces).__name__
                self.fail(name, f"register_hookspecs must return a list, not {kind}")
                continue
            for namespace in namespaces:
                try:
                    pluggy.PluginManager(hookspecs.PROJECT).add_hookspecs(namespace)
                except Exception as error:
                    self.fail(name, f"its hookspecs cannot be used: {explain(error)}")
                    break
                self._specs.append(namespace)
                self._require_fit(namespace)

    def _require_fit(self, namespace: Any) -> None:
        for name in self.active:
            try:
                self._managers[name].add_hookspecs(namespace)
            except Exception as error:
                self.fail(name, _one_line(error))

    def _refuse_unknown_hooks(self) -> None:
        for name in self.active:
            callers = [
                caller
                for caller in vars(self._managers[name].hook).values()
                if isinstance(caller, pluggy.HookCaller)
            ]
            known = [caller.name for caller in callers if caller.has_spec()]
            for caller in callers:
                if caller.has_spec() or all(each.optionalhook for each in caller.get_hookimpls()):
                    continue
                near = difflib.get_close_matches(caller.name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                self.fail(name, f"unknown hook {caller.name!r}{hint}")
                break


def answers_by_plugin(
    manager: PluginManager, hook: str, arguments: Callable[[str], Mapping[str, Any]]
) -> dict[str, Any]:
    """Call a *contribute* hook on every plugin in use; answers that are not ``None``, by plugin."""
    answers = {}
    for name in list(manager.active):
        if manager.implements(name, hook):
            answer = manager.contribute(name, hook, **arguments(name))
            if answer is not None:
                answers[name] = answer
    return answers


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _close(awaitable: Any) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
