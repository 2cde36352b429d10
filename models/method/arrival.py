"""Other nodes change what the UNet does with its residuals: here they are brought to its maps, and it is seen whether they arrive.

The UNet takes residuals from the end of three lists and adds each to a map; a map of another size gets nothing but a line in the
log, and a UNet that another node runs in part, or not at all, takes fewer.
"""

import torch
import torch.nn.functional as functional

from ..errors import UserError


class Arrival:
    """The residuals of one evaluation of the UNet, followed by patches that run after all others."""

    def __init__(self, control: dict):
        """
        Args:
            control: ComfyUI's control dict for this evaluation, from `injection.merge_control`; its lists are changed.
        """
        self._control = control
        self._last = len(control["output"]) - 1
        self._wanted = {
            (name, place)
            for name in ("output", "middle")
            for place, residual in enumerate(control[name])
            if residual is not None
        }
        self._whole = {(name, place): control[name][place] for name, place in self._wanted}
        self._entries = sum(map(len, control.values()))
        self._fitted: set[tuple[str, int]] = set()

    def patched(self, options: dict) -> dict:
        """ComfyUI's `transformer_options` with this object's two patches behind all others; `options` stays as it was."""
        patches = dict(options.get("patches", {}))
        for name, patch in (("input_block_patch", self._to_skip), ("input_block_patch_after_skip", self._to_middle)):
            patches[name] = [*patches.get(name, []), patch]
        return {**options, "patches": patches}

    def _to_skip(self, h: torch.Tensor, options: dict) -> torch.Tensor:
        self._fit("output", options["block"][1], h)
        return h

    def _to_middle(self, h: torch.Tensor, options: dict) -> torch.Tensor:
        if options["block"][1] == self._last:
            self._fit("middle", 0, h)
        return h

    def _fit(self, name: str, place: int, h: torch.Tensor) -> None:
        """Bring one residual to the size of the map it will be added to, as a node that shrinks maps has made it.

        From the residual as it came: a node may run the UNet on a picture of another size first, without residuals.
        """
        if (name, place) in self._wanted and place < len(self._control[name]):
            residual = self._whole[name, place]
            if residual.shape[-2:] != h.shape[-2:]:
                residual = functional.interpolate(residual, size=h.shape[-2:], mode="bilinear", antialias=True)
            self._control[name][place] = residual
            self._fitted.add((name, place))

    def check(self, ran_before: bool) -> bool:
        """Whether the UNet ran, to be asked after it; False when another node answered from what it had kept.

        Args:
            ran_before: the UNet ran earlier in this run, so that there is something to keep.

        Raises:
            UserError: a part of the residuals did not arrive, or another node answered without ever running the UNet.
        """
        left = {(name, place) for name, place in self._wanted if place < len(self._control[name])}
        ran = sum(map(len, self._control.values())) < self._entries
        if not ran and ran_before:
            return False
        arrived = len((self._wanted - left) & self._fitted) if ran else 0
        if not ran or arrived < len(self._wanted):
            raise UserError(
                f"IC-Portrait: another node runs the UNet in its own way, so that {arrived} of {len(self._wanted)} residuals of "
                "the portrait arrived; take that node (a cache of the UNet's blocks, for instance) off this MODEL."
            )
        return True


def watched(function, reached, active):
    """A `model_function_wrapper` of another node that has to call the model it was given.

    Args:
        function: the other node's.
        reached: called without arguments, gives how often the portrait's wrapper was called so far.
        active: called with sigma, tells whether the portrait is on there.

    Raises (when called):
        UserError: the model was not called, so that the picture would come without the portrait.
    """

    def call(apply_model, arguments):
        before = reached()
        result = function(apply_model, arguments)
        if reached() == before and active(float(arguments["timestep"][0])):
            place = getattr(function, "__module__", "").replace("\\", "/").rpartition("/")[2]  # of a pack it is a path
            name = f"{place}.{getattr(function, '__qualname__', type(function).__name__)}"
            raise UserError(
                f"IC-Portrait: the node that made {name.split('.<locals>')[0]} runs the UNet itself and leaves the portrait out; take "
                "it off this MODEL, or bypass 'Apply Portrait'."
            )
        return result

    return call
