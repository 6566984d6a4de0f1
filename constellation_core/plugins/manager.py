"""The enabled plugins, and calls to their hooks that keep one plugin's failure its own."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pluggy

from constellation_core import hookspecs
from constellation_core.plugins.discovery import (
    Installed,
    PluginLoadError,
    explain,
    installed_plugins,
    load_plugin,
)

log = logging.getLogger("constellation.plugins")

ERRORS_IN_A_ROW = 10
"""So many errors in events and decisions, with no success between, take a plugin out."""


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

    Hooks go through pluggy, which matches arguments by name and knows the specs; but every
    plugin is called alone, so that what one raises reaches no other.
    """

    def __init__(self) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self._enabled: list[str] = []
        self._failed: dict[str, str] = {}
        self._errors: dict[str, _Errors] = {}
        self._callers: dict[tuple[str, str], pluggy.HookCaller] = {}
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

    def load(self, enabled: Sequence[str], installed: Sequence[Installed] | None = None) -> None:
        """Import and register the plugins called ``enabled``; those that fail are marked so."""
        if installed is None:
            installed = installed_plugins() if enabled else []
        for name in enabled:
            if name in self._enabled:
                continue
            self._enabled.append(name)
            try:
                self.register(name, load_plugin(name, installed))
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
        try:
            self._pluggy.register(plugin, name)
        except pluggy.PluginValidationError as error:
            raise PluginLoadError(_misfit(error)) from error
        except Exception as error:
            raise PluginLoadError(f"registering it failed: {explain(error)}") from error
        if not self._pluggy.get_hookcallers(plugin):
            self._pluggy.unregister(name=name)
            raise PluginLoadError(
                "it has no hook functions: mark them with @hookimpl from constellation_core"
            )

    def fail(self, name: str, reason: str) -> None:
        """Take a plugin out of use. Of several reasons the first one is kept."""
        if name in self._failed:
            return
        self._failed[name] = reason
        self._callers.clear()
        if self._pluggy.has_plugin(name):
            self._pluggy.unregister(name=name)
        log.error("plugin %s failed: %s", name, reason)
        if self.on_failed is not None:
            self.on_failed(name, reason)

    def implements(self, name: str, hook: str) -> bool:
        """Whether the plugin is in use and has the hook."""
        return name in self.active and bool(self._caller(name, hook).get_hookimpls())

    def call(self, name: str, hook: str, /, **arguments: Any) -> Any:
        """Call one plugin's hook; what it raises passes through.

        Returns:
            What it returned (a coroutine, where it is async), or ``None`` without the hook.
        """
        if name not in self.active:
            return None
        results = self._caller(name, hook)(**arguments)
        if isinstance(results, list):
            return results[0] if results else None
        return results

    def contribute(self, name: str, hook: str, /, **arguments: Any) -> Any:
        """Call one plugin's *contribute* hook; one that raises makes its plugin failed."""
        try:
            result = self.call(name, hook, **arguments)
            if inspect.isawaitable(result):
                _close(result)
                raise TypeError("the hook must not be async")
            # Iterables are read here, so that a generator that raises does so inside.
            return list(result) if inspect.isgenerator(result) else result
        except (Exception, SystemExit) as error:
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
        caller = getattr(self._pluggy.hook, hook, None)
        if caller is None or not caller.has_spec():
            raise ValueError(f"no hook {hook!r} is defined")
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
        log.warning(
            "plugin %s: %s (%d in a row)", name, errors.last, errors.in_a_row, exc_info=error
        )
        if errors.in_a_row >= ERRORS_IN_A_ROW:
            self.fail(name, f"{errors.in_a_row} errors in a row; the last: {errors.last}")

    def count_success(self, name: str) -> None:
        """Note that a hook went well: errors count anew."""
        if name in self._errors:
            self._errors[name].in_a_row = 0

    def _caller(self, name: str, hook: str) -> pluggy.HookCaller:
        key = (name, hook)
        if key not in self._callers:
            others = [
                plugin
                for other, plugin in self._pluggy.list_name_plugin()
                if other != name and plugin is not None
            ]
            self._callers[key] = self._pluggy.subset_hook_caller(hook, others)
        return self._callers[key]

    def _add_plugin_hookspecs(self) -> None:
        for name in self.active:
            for namespace in self.contribute(name, "register_hookspecs") or ():
                self._add_hookspecs(name, namespace)

    def _add_hookspecs(self, owner: str, namespace: Any) -> None:
        # Each attempt that fails takes one plugin out, so this ends.
        while True:
            try:
                self._pluggy.add_hookspecs(namespace)
                return
            except pluggy.PluginValidationError as error:
                blamed = self._pluggy.get_name(error.plugin)
                if blamed is None or blamed in self._failed:
                    self.fail(owner, f"its hookspecs do not fit: {explain(error)}")
                    return
                self.fail(blamed, _misfit(error))
            except Exception as error:
                self.fail(owner, f"its hookspecs cannot be used: {explain(error)}")
                return

    def _refuse_unknown_hooks(self) -> None:
        known = [
            name
            for name, caller in vars(self._pluggy.hook).items()
            if isinstance(caller, pluggy.HookCaller) and caller.has_spec()
        ]
        for name in self.active:
            plugin = self._pluggy.get_plugin(name)
            for caller in self._pluggy.get_hookcallers(plugin) or ():
                optional = all(each.optionalhook for each in caller.get_hookimpls())
                if caller.has_spec() or optional:
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


def _misfit(error: pluggy.PluginValidationError) -> str:
    return " ".join(str(error).split())


def _close(awaitable: Any) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
