"""What ``constellation verify`` looks at."""

from __future__ import annotations

from constellation_core import Health, PluginContext, VerifyCheck, VerifyResult


def instances_check(context: PluginContext) -> VerifyCheck:
    """Whether all instances of this node run and are well."""

    async def run() -> VerifyResult:
        local = [context.local.instance(instance_id) for instance_id in context.local.ids()]
        sick = [each for each in local if each.health < Health.STARTING]
        if sick:
            words = "; ".join(f"{each.id} is {each.health.label}: {each.reason}" for each in sick)
            return VerifyResult("fail", words, f"constellation logs {sick[0].id}")
        if not local:
            return VerifyResult("skip", "no instances are defined for this node")
        return VerifyResult("ok", f"{len(local)} instances run here")

    return VerifyCheck("process.instances", run)
