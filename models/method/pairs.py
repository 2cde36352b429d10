"""A pair: two views side by side along the width. Which half is whose is decided here alone."""

import torch


def side_by_side(target: torch.Tensor, profile: torch.Tensor, profile_side: str = "right") -> torch.Tensor:
    """Two halves `[..., w]` as a pair `[..., 2w]`, the profile on `profile_side` (`right` at inference, or `left`)."""
    return torch.cat((target, profile) if profile_side == "right" else (profile, target), dim=-1)


def target_and_profile(pair: torch.Tensor, profile_side: str = "right") -> tuple[torch.Tensor, torch.Tensor]:
    """A pair `[..., 2w]` split into (target half, profile half)."""
    left, right = pair.chunk(2, dim=-1)
    return (left, right) if profile_side == "right" else (right, left)
