"""Presets: every number a run starts from. Each can be overridden on the command line.

`sd15` is the paper's recipe (section 4, "Implementation Details"); it was not run at full size, as it needs a GPU.
`demo` is the small bundle that ships with the pack; its header figures are those of docs/model_card.md.
"""

import dataclasses
from dataclasses import dataclass

from ...models.errors import UserError
from ..core.settings import LoopSettings
from ..tasks.appearance import AppearanceSettings
from ..tasks.base import BaseSettings
from ..tasks.hint import HintSettings
from ..tasks.lifter import LifterSettings
from ..tasks.matching import MatchingSettings
from ..tasks.recogniser import RecogniserSettings


@dataclass(frozen=True)
class Preset:
    """What a preset says about one stage."""

    loop: LoopSettings
    task: object | None = None
    """The task's settings; None for the autoencoder, which has none."""
    shares: tuple[tuple[int | None, float], ...] = ((None, 1.0),)
    """Picture size in pixels (None: as stored) up to a share of the steps. On two CPU cores 128-px pictures train four times
    as fast."""

    def phases(self, steps: int) -> list[tuple[int | None, int]]:
        """(picture size, last step) of each phase; the shares are kept when the number of steps is overridden."""
        return [(size, round(steps * share)) for size, share in self.shares]


# Sees pictures only, so it is the same whatever the base. A batch counts people, two pictures of each.
_RECOGNISER = Preset(
    LoopSettings(
        steps=1500, batch=64, lr=1e-3, schedule="cosine", warmup=50, weight_decay=0.05, ema=0.99, precision="bf16"
    ),
    RecogniserSettings(),
)

_HINT = Preset(
    LoopSettings(steps=800, batch=32, lr=2e-3, schedule="cosine", warmup=50, ema=0.99, precision="bf16"), HintSettings()
)

# Sees heads only, too. A step of 4 heads takes about half a second on one CPU core.
_LIFTER = Preset(
    LoopSettings(steps=20_000, batch=4, lr=1e-3, schedule="cosine", warmup=100, ema=0.995),
    LifterSettings(),
)

PRESETS: dict[str, dict[str, Preset]] = {
    "demo": {
        "autoencoder": Preset(
            LoopSettings(steps=3000, batch=16, lr=1e-3, schedule="cosine", warmup=100, ema=0.995, precision="bf16")
        ),
        "base": Preset(
            LoopSettings(steps=4000, batch=8, lr=4e-4, schedule="cosine", warmup=200, ema=0.998, precision="bf16"),
            BaseSettings(),
            shares=((128, 0.6), (256, 1.0)),
        ),
        "recogniser": _RECOGNISER,
        "lifter": _LIFTER,
        "hint": dataclasses.replace(_HINT, shares=((256, 1.0),)),
        "matching": Preset(
            LoopSettings(
                steps=1000,
                batch=16,
                lr=2e-4,
                schedule="cosine",
                warmup=20,
                ema=0.98,
                precision="bf16",
                validate_every=50,
            ),
            MatchingSettings(triplets=0.6, max_timestep=300, objective="flow", fine_tap=2, sigma_end=0.7),
            shares=((256, 1.0),),
        ),
        "appearance": Preset(
            LoopSettings(steps=4000, batch=8, lr=3e-4, schedule="cosine", warmup=100, ema=0.998, precision="bf16"),
            AppearanceSettings(
                triplets=0.8,
                bridge=1.0,
                bridge_timestep=700,
                min_timestep=20,
                max_timestep=800,
                profile_weight=0.1,
                face_weight=3.0,
                alpha=1.0,
                beta=0.2,
                gate=True,
                true_flow=0.5,
                base_share=0.15,
            ),
            shares=((128, 0.65), (256, 1.0)),
        ),
    },
    "sd15": {
        "recogniser": _RECOGNISER,
        "hint": _HINT,
        "lifter": _LIFTER,
        "matching": Preset(
            LoopSettings(steps=200, batch=16, lr=1e-5, precision="auto", workers=4, validate_every=50),
            MatchingSettings(objective="paper"),
        ),
        "appearance": Preset(
            LoopSettings(steps=20_000, batch=16, lr=1e-5, precision="auto", workers=4),
            AppearanceSettings(),
        ),
    },
}


def preset(name: str, stage: str) -> Preset:
    """The preset's numbers of a stage.

    Raises:
        UserError: the preset has no such stage.
    """
    if stage not in PRESETS[name]:
        raise UserError(f"The preset {name} has no stage {stage}: its base is a checkpoint of yours (--base).")
    return PRESETS[name][stage]
