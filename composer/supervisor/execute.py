"""The executor: one match over action types; each arm is one call. Decides nothing."""

from __future__ import annotations

from composer.plan import actions as act
from composer.supervisor.core import Core


async def execute(core: Core, action: act.Action) -> None:
    """Carry out one action. Raises ComposerError; the loop records it as an observation."""
    if isinstance(action, act.ContainerAction):
        await of_container(core, action)
        return
    match action:
        case act.PullImage():
            await core.images.pull(action.image, action.platform)
        case act.BuildImage():
            await core.images.build(core.stack, core.service(action.service))
        case act.RemoveImage():
            await core.settle()  # whether an image is in use, the records say: ours, too
            await core.images.remove(action.image)
        case act.CreateNetwork():
            core.net.ensure(core.stack.networks[action.key], action.digest)
        case act.RemoveNetwork():
            await core.net.remove(action.name)
        case act.CreateVolume():
            core.volumes.ensure(core.stack.volumes[action.key], core.stack.name)
        case act.RemoveVolume():
            if kept := core.volumes.remove(action.name, core.name):
                core.notice(kept)
        case act.RollBack():
            from composer.supervisor.rollback import roll_back

            roll_back(core, action.service, action.because)
        case _:
            raise AssertionError(f"no way to execute {action}")


async def of_container(core: Core, action: act.ContainerAction) -> None:
    match action:
        case act.CreateContainer():
            await core.containers.create(action)
        case act.UpdateContainer():
            await core.containers.update(action)
        case act.StartContainer():
            await core.runs.start(action.name)
        case act.AwaitConnection():
            await core.gates.await_connection(action)
        case act.FreezeContainer():
            await core.gates.freeze(action)
        case act.RestartContainer():
            await core.runs.restart(action)
        case act.RunSteps():
            await core.oneoff.steps(action)
        case act.RunHooks():
            await core.inside.hooks(action)
        case act.TakeOver():
            from composer.supervisor.handover import take_over

            await take_over(core, action)
        case act.StopContainer():
            await core.runs.stop(action)
        case act.KillContainer():
            await core.runs.kill(action.name)
        case act.RemoveContainer():
            await core.containers.remove(action)
        case _:
            raise AssertionError(f"no way to execute {action}")
