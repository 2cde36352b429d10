"""Presets: every number a run starts from. Each can be overridden on the command line.

`sd15` is the paper's recipe (section 4, "Implementation Details"); it was not run at full size, as it needs a GPU.
`demo` is the small bundle that ships with the pack; its header figures are those of docs/model_card.md.
"""

from .core.loop import LoopSettings
from .tasks.conditioning import ConditioningSettings

STAGES = ("autoencoder", "base", "recogniser", "hint", "matching", "appearance")

# Sees pictures only, so it is the same whatever the base. A batch counts people, two pictures of each.
_RECOGNISER = LoopSettings(
    steps=1500, batch=64, lr=1e-3, schedule="cosine", warmup=50, weight_decay=0.05, ema=0.99, precision="bf16"
)

LOOP = {
    "demo": {
        "autoencoder": LoopSettings(
            steps=3000, batch=16, lr=1e-3, schedule="cosine", warmup=100, ema=0.995, precision="bf16"
        ),
        "base": LoopSettings(steps=4000, batch=8, lr=4e-4, schedule="cosine", warmup=200, ema=0.998, precision="bf16"),
        "recogniser": _RECOGNISER,
        "hint": LoopSettings(steps=800, batch=32, lr=2e-3, schedule="cosine", warmup=50, ema=0.99, precision="bf16"),
        "matching": LoopSettings(
            steps=1000,
            batch=16,
            lr=2e-4,
            schedule="cosine",
            warmup=20,
            ema=0.98,
            precision="bf16",
            validate_every=50,
        ),
        "appearance": LoopSettings(
            steps=4000, batch=8, lr=3e-4, schedule="cosine", warmup=100, ema=0.998, precision="bf16"
        ),
    },
    "sd15": {
        "recogniser": _RECOGNISER,
        "matching": LoopSettings(steps=200, batch=16, lr=1e-5, precision="fp16", validate_every=50),
        "appearance": LoopSettings(steps=20_000, batch=16, lr=1e-5, precision="fp16"),
    },
}

# Picture size in pixels up to a share of the steps. On two CPU cores 128-px pictures train four times as fast.
PHASES = {
    "demo": {
        "base": ((128, 0.6), (256, 1.0)),
        "hint": ((256, 1.0),),
        "matching": ((256, 1.0),),
        "appearance": ((128, 0.65), (256, 1.0)),
    },
    "sd15": {},
}

CONDITIONING = {
    "demo": {
        "matching": ConditioningSettings(triplets=0.6, max_timestep=300),
        "appearance": ConditioningSettings(
            triplets=0.8, bridge=1.0, bridge_timestep=700, min_timestep=20, max_timestep=800
        ),
    },
    "sd15": {
        "matching": ConditioningSettings(),
        "appearance": ConditioningSettings(),
    },
}

TASK = {
    "demo": {
        "autoencoder": {},
        "base": {},
        "recogniser": {},
        "hint": {},
        "matching": {"objective": "flow", "fine_tap": 2, "sigma_end": 0.7},
        "appearance": {
            "profile_weight": 0.1,
            "face_weight": 3.0,
            "alpha": 1.0,
            "beta": 0.2,
            "gate": True,
            "true_flow": 0.5,
            "base_share": 0.15,
        },
    },
    "sd15": {
        "recogniser": {},
        "matching": {"objective": "paper"},
        "appearance": {},
    },
}
