"""What a denoising step of the method costs beside the UNet alone and beside two stock ControlNets: in FLOP, and in seconds."""

from collections.abc import Callable

import torch

from ....models.method.injection import SPEEDS
from ....models.method.reuse import KeptProfile
from ....models.nets.one_token import with_one_query
from ....models.portrait import CropSettings
from ...tasks.matching import as_control
from .flops import FullSize, count
from .timing import filled, spread, timed


def step_costs(models: FullSize, cost: Callable[[Callable[[], object]], float], rows: int = 1) -> dict[str, float]:
    """What so many rows of one denoising step cost, in the unit of `cost`; the hint is encoded once a run, so it does not count.

    Returns:
        unet_single, unet_pair, two_controlnets (stock ones, on the pair), method (the pair with the appearance net); when `fast`
        keeping (the same, leaving what the next ones need) and target_alone (those).
    """
    unet, net, cells = models.unet, models.appearance, models.cells
    like = next(unet.parameters())
    hint = like.new_zeros(1, 320, cells, 2 * cells)

    def inputs(wide: bool) -> tuple[torch.Tensor, ...]:
        shapes = [models.inputs(wide)[name].shape[1:] for name in ("noisy", "timesteps", "context")]
        noisy, timesteps, context = (like.new_zeros(rows, *shape) for shape in shapes)
        return noisy, timesteps.float(), context

    def stock(wide: bool, nets: int) -> object:
        x, control = inputs(wide), None
        for _ in range(nets):
            own = as_control(net.residuals(*x, hint))
            control = (
                own
                if control is None
                else {name: [one + other for one, other in zip(control[name], own[name], strict=True)] for name in own}
            )
        return unet(*x, control=control)

    kept = KeptProfile(unet)

    def method() -> object:
        x = inputs(True)
        residuals = net.residuals(*x, hint, with_one_query({}))
        kept.residuals = [residual.chunk(2, dim=-1)[0] for residual in residuals]
        return unet(*x, control=as_control(residuals), transformer_options=with_one_query({}))

    def keeping() -> None:
        with kept.keeping((cells, 2 * cells)):
            method()

    def target_alone() -> object:
        with kept.beside():
            return unet(*inputs(False), control=as_control(kept.residuals), transformer_options=with_one_query({}))

    with torch.inference_mode():
        keeping()
        works = {
            "unet_single": lambda: stock(False, 0),
            "unet_pair": lambda: stock(True, 0),
            "two_controlnets": lambda: stock(True, 2),
            "method": method,
            "keeping": keeping,
            "target_alone": target_alone,
        }
        return {name: cost(work) for name, work in works.items()}


def step_ratios(costs: dict[str, float]) -> dict[str, dict[str, float]]:
    """A step of the method over those it is compared with; `fast` is the mean over the steps of the node's default."""
    steps = CropSettings().steps
    pairs = -(-steps // SPEEDS["fast"])
    ours = {
        "default": costs["method"],
        "fast": (pairs * costs["keeping"] + (steps - pairs) * costs["target_alone"]) / steps,
    }
    return {
        f"step_vs_{other}": {speed: own / costs[other] for speed, own in ours.items()}
        for other in ("two_controlnets", "unet_single")
    }


def counted_steps(size: int = 512) -> dict:
    """TFLOP of one row of one denoising step, and the ratios of the method's step to others'."""
    costs = step_costs(FullSize(size), lambda work: count(work, backward=False))
    return {f"tflop_{name}": flop / 1e12 for name, flop in costs.items()} | step_ratios(costs)


def timed_steps(size: int, repetitions: int, dtype: torch.dtype) -> dict:
    """The same ratios of seconds, with random weights, two rows as classifier-free guidance has them."""
    models = FullSize(size)
    for module in (models.unet, models.appearance):
        filled(module, dtype)

    def once() -> dict:
        return step_ratios(step_costs(models, timed, rows=2))

    once()  # the first time is slower
    found = [once() for _ in range(repetitions)]
    return {name: {speed: spread([one[name][speed] for one in found]) for speed in found[0][name]} for name in found[0]}
