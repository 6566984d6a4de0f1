"""What ``constellation verify`` looks at."""

from __future__ import annotations

from constellation_core import Health, PluginContext, VerifyCheck, VerifyResult


def checks_check(context: PluginContext) -> VerifyCheck:
    """Whether all instances of this node that have a check pass it."""

    async def run() -> VerifyResult:
        local = context.local
        checked = [each for each in local.ids() if local.service(each).check is not None]
        instances = [local.instance(each) for each in checked]
        failing = [each for each in instances if each.health < Health.STARTING]
        if failing:
            words = "; ".join(
                f"{each.id} is {each.health.label}: {each.reason}" for each in failing
            )
            return VerifyResult("fail", words, f"constellation logs {failing[0].id}")
        starting = [each.id for each in instances if each.health is Health.STARTING]
        if starting:
            return VerifyResult("warn", f"not checked yet: {', '.join(starting)}", "wait a moment")
        if not checked:
            return VerifyResult("skip", "no instance here has a check")
        return VerifyResult("ok", f"{len(checked)} instances pass their checks")

    return VerifyCheck("monitor.checks", run)
