"""The MODEL patch: a clone of MODEL that denoises an in-context pair while every other node sees one normal-width latent.

A `WrappersMP.APPLY_MODEL` wrapper appends the profile half to the sampler's latent, runs the two nets, adds their
residuals and hands back the target half. Without nets the pair runs alone; either way self-attention may follow the flow
(`attention.py`). Names: `x` is what the sampler holds (model scale, before
`calculate_input`), `W` is one view's latent width, `rows` = chunks * batch (ComfyUI stacks cond and uncond rows, each chunk
the whole batch). The batch may have one profile, or each of its pictures its own.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import comfy.model_management
import torch
import torch.nn.functional as functional
from comfy.patcher_extension import WrappersMP

from ..errors import UserError
from ..nets.one_token import with_one_query
from ..types import Flow, LoadedNet, PortraitNets, Profile
from ..values import check_number, check_option, check_whole
from .aggregation import aggregate_residuals
from .arrival import Arrival, watched
from .attention import FlowAttention, with_flow_attention, with_target_maps
from .correspondence import FLOW_METHOD, METHODS
from .matching import (
    FLOW_TIMESTEP,
    check_style_latent,
    flow_at_timestep,
    hint_pair,
    matching_flow,
    net_inputs,
    noised,
    pair_noise,
)
from .reuse import KeptProfile, can_reuse

KEY = "icportrait"
FLOW_MODES = ("once", "each step")
SPEEDS = {"exact": 1, "fast": 3}
"""Name -> one evaluation in so many sees the whole pair: `Settings.pair_every`. What it costs and changes: docs/performance.md."""
KEPT_MEMORY = 0.25
"""What is kept between them over what an evaluation of the pair takes beside: measured at SD1.5's size (`icportrait measure speed`)."""


@dataclass(frozen=True)
class Settings:
    """How the nets are applied. Checked at construction (ValueError)."""

    strength: float = 1.0
    """Multiplies all residuals; 0 leaves MODEL as it was, bit for bit, with and without nets."""
    start_percent: float = 0.0
    """Share of the schedule at which the pair starts, 0 .. 1."""
    end_percent: float = 1.0
    """Share at which it ends; start = end switches it off."""
    alpha: float | None = None
    """Slope of eq. 7; None = the value the appearance net was trained with."""
    beta: float | None = None
    """Base weight of eq. 7; None = the value the appearance net was trained with."""
    flow_mode: str = "once"
    """`once`: one flow a run, from the style crop's latent at `flow_timestep`. `each step`: from the sampler's own
    noisy latent at its own t, as the paper writes it."""
    flow_timestep: int = FLOW_TIMESTEP
    """Noise level for `once`, 0 .. 999."""
    flow_method: str = FLOW_METHOD
    """One of `correspondence.METHODS`."""
    use_confidence: bool | None = None
    """Scale the warped features by the flow's confidence; False is eq. 7 as the paper writes it, None = as the appearance
    net was trained."""
    seed: int = 0
    """Decides the profile half's noise (and the style crop's, for `once`)."""
    attention: float = 0.0
    """How far the target's self-attention reads the profile along the flow, 0 .. 1; 0 installs nothing."""
    attention_start_percent: float = 0.0
    """Share of the schedule at which that starts, 0 .. 1; only within `start_percent` .. `end_percent`."""
    attention_end_percent: float = 1.0
    """Share at which it ends."""
    pair_every: int = 1
    """One evaluation in so many runs the pair through UNet and nets; those between run the target half alone, beside what it left
    (`reuse.py`). 1 = all, as the paper has it. Where `attention` acts, or another node looks into the UNet, all do."""

    def __post_init__(self):
        check_option("flow_mode", self.flow_mode, FLOW_MODES)
        check_option("flow_method", self.flow_method, METHODS)
        check_whole("flow_timestep", self.flow_timestep, 0, 999)
        check_whole("seed", self.seed, 0, 2**64 - 1)
        check_whole("pair_every", self.pair_every, 1, 10_000)
        for name in ("strength", "alpha", "beta"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0, 10)
        for name in (
            "start_percent",
            "end_percent",
            "attention",
            "attention_start_percent",
            "attention_end_percent",
        ):
            check_number(name, getattr(self, name), 0, 1)


def check_model(model, nets: PortraitNets | None = None) -> None:
    """Refuse a MODEL the method cannot patch.

    Raises:
        UserError: not SD1.5 (naming what it is), an inpainting model, or nets of another width.
    """
    config = model.model.model_config
    unet = config.unet_config
    kind = type(config).__name__
    if unet.get("context_dim") != 768 or "model_channels" not in unet or unet.get("adm_in_channels") is not None:
        raise UserError(f"The MODEL must be SD1.5 or a fine-tune of it; got {kind}. Load an SD1.5 checkpoint.")
    if unet["in_channels"] != 4:
        raise UserError(
            f"The MODEL has {unet['in_channels']} input channels, so it is an inpainting or editing variant of {kind}; "
            "load a plain SD1.5 checkpoint (a noise mask works with it too)."
        )
    for net in (nets.matching, nets.appearance) if nets else ():
        for key in ("model_channels", "channel_mult", "num_res_blocks", "context_dim"):
            if list_of(net.config["unet"][key]) != list_of(unet[key]):
                raise UserError(
                    f"The {net.config['role']} net was made for another UNet: {key} is {net.config['unet'][key]} in the net and "
                    f"{unet[key]} in the MODEL. Load the nets that belong to this MODEL."
                )


def list_of(value) -> list:
    """Sequences of a config compare equal whether they came from JSON (list) or from ComfyUI (tuple)."""
    return list(value) if isinstance(value, list | tuple) else [value]


def level_shapes(unet: dict, height: int, width: int) -> list[tuple[int, int, int]]:
    """(channels, height, width) of each residual of an ldm UNet in encoder order, the middle block last.

    Args:
        unet: config with `model_channels`, `channel_mult`, `num_res_blocks`.
        height, width: of the latent, in cells; multiples of 8.
    """
    channels = unet["model_channels"]
    shapes = [(channels, height, width)]
    for level, (multiplier, blocks) in enumerate(zip(unet["channel_mult"], unet["num_res_blocks"], strict=True)):
        if level > 0:
            height, width = height // 2, width // 2
            shapes.append((channels, height, width))  # the downsampling convolution
        channels = unet["model_channels"] * multiplier
        shapes += [(channels, height, width)] * blocks
    return shapes + [(channels, height, width)]


def _check_shape(residual: torch.Tensor, rows: int, expected: tuple[int, int, int], what: str) -> None:
    # The UNet itself only logs a mismatch and goes on without the residual.
    if residual.ndim != 4 or residual.shape[0] not in (1, rows) or tuple(residual.shape[1:]) != expected:
        raise UserError(
            f"IC-Portrait: {what} has the shape {list(residual.shape)}, but the UNet needs {[rows, *expected]} there. "
            "The net or ControlNet was made for another model or another size."
        )


def merge_control(
    own: list[torch.Tensor | None],
    control: dict | None,
    rows: int,
    shapes: list[tuple[int, int, int]],
    pair: bool = True,
) -> dict:
    """ComfyUI's control dict: our residuals plus those of other ControlNets, which ran on the target alone.

    Args:
        own: our residuals in encoder order, the middle block last; None where there is none.
        control: what ComfyUI computed at width W, or None; not modified. Its lists are consumed from the end, so
            entry i of a list of n belongs n - i places before the end of the encoder.
        shapes: from `level_shapes` at width 2W, or W for the target half alone.
        pair: whether the UNet runs on the pair.

    Raises:
        UserError: a residual whose shape does not fit.
    """
    for level, (residual, shape) in enumerate(zip(own, shapes, strict=True)):
        if residual is not None:
            _check_shape(residual, rows, shape, f"the appearance net's residual of level {level}")
    merged = {"input": [], "middle": own[-1:], "output": own[:-1]}
    blocks = len(own) - 1
    for name, residuals in (control or {}).items():
        count = len(residuals)
        for index, residual in enumerate(residuals):
            if residual is None:
                continue
            if name == "middle":
                level, slot = blocks, index
            elif name == "output":
                level = slot = index + blocks - count
            else:  # 'input': the list's end belongs to the first block
                level, slot = count - 1 - index, index
            if not 0 <= level <= blocks or (name == "middle" and index > 0):
                raise UserError(
                    f"IC-Portrait: another ControlNet brings {count} '{name}' residuals, but this UNet takes {blocks}."
                )
            channels, height, width = shapes[level]
            width = width // 2 if pair else width
            _check_shape(residual, rows, (channels, height, width), f"another ControlNet's '{name}' residual {index}")
            padded = functional.pad(residual, (0, width)) if pair else residual  # zeros over the profile half
            if name == "input":
                merged["input"] += [None] * (count - len(merged["input"]))
                merged["input"][slot] = padded
            else:
                present = merged[name][slot]
                merged[name][slot] = padded if present is None else present + padded
    return merged


def is_cond(chunk: int, context: torch.Tensor | None, embedding: torch.Tensor) -> bool:
    """Whether rows are conditioned on the profile or belong to the zero embedding of classifier-free guidance.

    Rows that carry the profile's embedding or zeros say so themselves, whatever place a guider gave them; others (text
    prompts) go by ComfyUI's order, in which chunk 0 is the positive one.

    Args:
        chunk: from `cond_or_uncond`.
        context: what the UNet gets for these rows, `[B, tokens, C]`.
        embedding: the profile's, `[1 or B, 1, 768]`.
    """
    if context is not None:
        if not bool(context.any()):
            return False
        if context.shape[-1] == embedding.shape[-1] and torch.allclose(context.to(embedding), embedding):
            return True
    return chunk == 0


def _on_rows(of_profiles: torch.Tensor, rows: int) -> torch.Tensor:
    """`[B, ...]` of the profiles for `rows` = chunks * B, chunk after chunk; of one profile as it is, for torch to broadcast."""
    repeats = 1 if len(of_profiles) == 1 else rows // len(of_profiles)
    return of_profiles.repeat(repeats, *(1,) * (of_profiles.ndim - 1))


def _within(base, sigma: float, start_percent: float, end_percent: float) -> bool:
    """Whether a noise level lies in a part of the schedule; never when the part is empty."""
    if start_percent >= end_percent:
        return False
    percent_to_sigma = base.model_sampling.percent_to_sigma
    return percent_to_sigma(end_percent) <= sigma <= percent_to_sigma(start_percent)


@dataclass
class _Run:
    """What one sampling run computes once. Dropped when the run ends, however it ends."""

    latent: torch.Tensor | None = None  # z', model scale
    noise: torch.Tensor | None = None
    hints: dict[str, torch.Tensor] = field(default_factory=dict)
    flow: tuple[torch.Tensor, torch.Tensor] | None = None
    flow_of: tuple[float, torch.Tensor] | None = None  # (sigma, x) the flow was computed from, in 'each step'
    calls: int = 0  # of `apply_model`
    unet_ran: bool = False  # with the pair
    exact: bool = False  # another node looks into the UNet, at least at some of the evaluations, and compares them
    kept: dict[tuple, KeptProfile] = field(default_factory=dict)  # by the rows that ran together


class PortraitPatch:
    """The wrappers of one Apply. Holds no tensors of its own beyond a run."""

    def __init__(
        self,
        nets: PortraitNets | None,
        profile: Profile,
        hint: torch.Tensor | None,
        settings: Settings,
        flow: Flow | None = None,
        style_latent: torch.Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ):
        self.nets = nets
        self.profile = profile
        self.hint = hint  # [B, 3, H, 2W]; None without nets
        self.settings = settings
        self.seeds = [settings.seed] if seeds is None else seeds
        self.flow = flow
        self.style_latent = style_latent
        if nets is not None:
            config = nets.appearance.config
            self.alpha = config["alpha"] if settings.alpha is None else settings.alpha
            self.beta = config["beta"] if settings.beta is None else settings.beta
            self.gate = config.get("gate", False) if settings.use_confidence is None else settings.use_confidence
        self.run = _Run()

    @property
    def used_nets(self) -> list[LoadedNet]:
        """A flow that came in ready needs no matching net, so it is not loaded then."""
        if self.nets is None:
            return []
        return [self.nets.appearance] if self.flow is not None else [self.nets.matching, self.nets.appearance]

    # Wrappers. ComfyUI's signatures have grown over time, so all but the needed arguments pass through.

    def outer_sample(self, executor, *args, **kwargs):
        """`WrappersMP.OUTER_SAMPLE`: one run; ComfyUI's own clean-up is skipped on errors and on Cancel."""
        try:
            return executor(*args, **kwargs)
        finally:
            self.run = _Run()

    def prepare_sampling(self, executor, model, noise_shape, *args, **kwargs):
        """`WrappersMP.PREPARE_SAMPLING`: the UNet will see twice the width, so the memory estimate, which goes by the area, must."""
        width = 2 * noise_shape[-1] * (1 + (KEPT_MEMORY if self.settings.pair_every > 1 else 0))
        return executor(model, [*noise_shape[:-1], round(width)], *args, **kwargs)

    def calc_cond_batch(self, executor, model, conds, x, timestep, model_options, *args, **kwargs):
        """`WrappersMP.CALC_COND_BATCH`: another node's `model_function_wrapper` stands before `apply_model`, and must get there."""
        function = model_options.get("model_function_wrapper")
        if function is not None:
            checked = watched(function, lambda: self.run.calls, lambda sigma: self._active(model, sigma))
            model_options = {**model_options, "model_function_wrapper": checked}
        return executor(model, conds, x, timestep, model_options, *args, **kwargs)

    def apply_model(
        self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, *args, **kwargs
    ):
        """`WrappersMP.APPLY_MODEL`: denoise the pair, return the target half.

        Args:
            x: `[rows, 4, h, W]`, the sampler's latent.
            t: sigma `[rows]`.
            control: other ControlNets' residuals at width W.
        """
        # Older versions only look for Cancel in the server's progress hook.
        comfy.model_management.throw_exception_if_processing_interrupted()
        transformer_options = {} if transformer_options is None else transformer_options
        base = executor.class_obj
        self.run.calls += 1
        if not self._active(base, float(t[0])):
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, *args, **kwargs)
        self._check(x, c_concat, transformer_options)
        self._prepare(base, x)

        rows, _, height, width = x.shape
        attending = self._attends(base, float(t[0]))
        self.run.exact |= not can_reuse(transformer_options)
        keeping = self.settings.pair_every > 1 and not attending and not self.run.exact
        place = (*(transformer_options.get("uuids") or transformer_options.get("cond_or_uncond") or ()), *x.shape)
        kept = self.run.kept.get(place) if keeping else None
        attention = None
        if kept is not None and kept.uses < self.settings.pair_every - 1:
            view, residuals, context = x, kept.residuals, kept.beside()
        else:
            self.run.kept.pop(place, None)
            kept = None  # the old one goes before the new one comes
            view = self._pair(base, x, t)
            residuals, attention = self._guides(base, view, t, c_crossattn, transformer_options, attending)
            kept = KeptProfile(base.diffusion_model) if keeping else None
            context = kept.keeping(view.shape[-2:]) if keeping else contextlib.nullcontext()

        shapes = level_shapes(base.model_config.unet_config, height, view.shape[-1])
        merged = merge_control(residuals or [None] * len(shapes), control, rows, shapes, pair=view is not x)
        arrival = Arrival(merged)
        transformer_options = arrival.patched(with_target_maps(with_one_query(transformer_options)))
        if attention is not None:
            transformer_options = with_flow_attention(transformer_options, attention)
        with context:
            result = executor(view, t, c_concat, c_crossattn, merged, transformer_options, *args, **kwargs)
        if arrival.check(self.run.unet_ran):
            self.run.unet_ran = True
            if attention is not None:
                attention.check()
        if view is not x and keeping and kept.complete:
            kept.residuals = [residual[..., : residual.shape[-1] // 2].clone() for residual in residuals]
            self.run.kept[place] = kept
        return result[..., :width]

    # Steps of apply_model

    def _active(self, base, sigma: float) -> bool:
        settings = self.settings
        return settings.strength != 0 and _within(base, sigma, settings.start_percent, settings.end_percent)

    def _attends(self, base, sigma: float) -> bool:
        settings = self.settings
        return settings.attention != 0 and _within(
            base, sigma, settings.attention_start_percent, settings.attention_end_percent
        )

    def _check(self, x, c_concat, transformer_options: dict) -> None:
        height, width = self.profile.latent.shape[-2:]
        if x.shape[-2:] != self.profile.latent.shape[-2:]:
            raise UserError(
                f"IC-Portrait: the sampler works on {x.shape[-1] * 8} x {x.shape[-2] * 8} pixels, but the profile is "
                f"{width * 8} x {height * 8}. Make the latent from a style crop of the profile crop's size; area conditioning and "
                "tiled sampling cannot be combined with IC-Portrait."
            )
        if c_concat is not None:
            raise UserError(
                "IC-Portrait: the conditioning carries an extra latent (inpainting model); use a plain SD1.5 model instead."
            )
        if transformer_options.get("patches", {}).get("middle_patch"):
            raise UserError(
                "IC-Portrait: the conditioning carries GLIGEN's boxes, which are shares of a picture half as wide as what the UNet sees "
                "here; take 'GLIGENTextBoxApply' away."
            )

    def _prepare(self, base, x) -> None:
        """Once a run: the profile's latent and noise, and both nets' hint features."""
        run = self.run
        if run.latent is None or run.latent.device != x.device:
            run.latent = base.process_latent_in(self.profile.latent).to(x.device)
            run.noise = torch.cat([pair_noise(self.profile.latent, seed)[0] for seed in self.seeds]).to(x.device)
            run.hints = {net.config["role"]: self._encode_hint(net, x.device) for net in self.used_nets}

    def _pair(self, base, x, sigma) -> torch.Tensor:
        """The sampler's latent and the profile's at its noise level side by side, `[rows, 4, h, 2W]`."""
        rows = x.shape[0]
        latent, noise = _on_rows(self.run.latent, rows), _on_rows(self.run.noise, rows)
        profile_half = noised(base.model_sampling, latent, noise, sigma).to(x.dtype)
        return torch.cat((x, profile_half.expand(rows, -1, -1, -1)), dim=-1)

    def _guides(
        self, base, pair, sigma, crossattn, options: dict, attending: bool
    ) -> tuple[list[torch.Tensor], FlowAttention | None]:
        """(the appearance net's residuals of the pair, blended along the flow: none without nets; attention along the flow or None)."""
        if self.nets is None and not attending:
            return [], None
        chunks = list(options.get("cond_or_uncond") or [0])
        rows = pair.shape[0]
        batch = rows // len(chunks)
        offsets, confidence = self._flow(base, pair[:batch], sigma[:batch])
        repeats = rows // offsets.shape[0]
        offsets, confidence = offsets.repeat(repeats, 1, 1, 1), confidence.repeat(repeats, 1, 1, 1)
        residuals = []
        if self.nets is not None:
            residuals = aggregate_residuals(
                self._residuals(base, pair, sigma, chunks, crossattn),
                offsets,
                self.alpha,
                self.beta,
                confidence if self.gate else None,
            )
            residuals = [residual * self.settings.strength for residual in residuals]
        attention = (
            FlowAttention(offsets, confidence, self.settings.attention, tuple(pair.shape[-2:])) if attending else None
        )
        return residuals, attention

    def _encode_hint(self, net: LoadedNet, device) -> torch.Tensor:
        return net.module.encode_hint(self.hint.to(device=device, dtype=net.dtype))

    def _flow(self, base, pair, sigma) -> tuple[torch.Tensor, torch.Tensor]:
        """(offsets, confidence) for one chunk's rows: `[1 or B, 2, fh, fw]` and `[1 or B, 1, fh, fw]`.

        All chunks hold the same latents, so the first chunk's rows with the profile's embedding are the cond rows,
        also when ComfyUI runs cond and uncond in two calls.
        """
        run, settings = self.run, self.settings
        if self.flow is not None:
            if run.flow is None:
                run.flow = self.flow.offsets.to(pair.device), self.flow.confidence.to(pair.device)
        elif settings.flow_mode == "once":
            if run.flow is None:
                hint = run.hints["matching"]
                arguments = (self.style_latent, hint, settings.flow_timestep, settings.flow_method, settings.seed)
                run.flow = flow_at_timestep(base, self.nets.matching, self.profile, *arguments)
        elif run.flow_of is None or run.flow_of[0] != float(sigma[0]) or not torch.equal(run.flow_of[1], pair):
            # Second-order samplers ask for the same sigma with another x, hence both in the key.
            arguments = (self.profile.embedding, run.hints["matching"], settings.flow_method)
            run.flow = matching_flow(self.nets.matching, base.model_sampling, pair, sigma, *arguments)
            run.flow_of = (float(sigma[0]), pair)
        return run.flow

    def _residuals(self, base, pair, sigma, chunks: list[int], crossattn) -> list[torch.Tensor]:
        """The appearance net on all rows: the profile's embedding for cond rows, zeros for uncond rows."""
        embedding = self.profile.embedding.to(pair.device)
        batch = pair.shape[0] // len(chunks)
        contexts = [None] * len(chunks) if crossattn is None else crossattn.split(batch)
        context = torch.cat(
            [
                (embedding if is_cond(chunk, own, embedding) else torch.zeros_like(embedding)).expand(batch, -1, -1)
                for chunk, own in zip(chunks, contexts, strict=True)
            ]
        )
        net = self.nets.appearance
        inputs = net_inputs(net, base.model_sampling, pair, sigma, context)
        hint = _on_rows(self.run.hints["appearance"], pair.shape[0])
        return net.module.residuals(*inputs, hint, with_one_query({}))


def apply_portrait(
    model,
    nets: PortraitNets | None,
    profile: Profile,
    sampled: torch.Tensor | None,
    settings: Settings,
    flow: Flow | None = None,
    style_latent: torch.Tensor | None = None,
    seeds: Sequence[int] | None = None,
):
    """A clone of MODEL with the profile applied; the MODEL that came in stays as it was.

    Args:
        model: ComfyUI MODEL (ModelPatcher), SD1.5.
        nets: None runs the in-context pair alone.
        profile: one for all latents of the batch that is sampled, or one for each.
        sampled: style crop after pixel sampling, `[B, H, W, 3]`, of the profile's size; only the nets look at it.
        flow: ready flow, used as it is when given. Without nets the only one there is; needed for `attention` then.
        style_latent: `[B, 4, H / 8, W / 8]`, VAE scale; needed for `flow_mode` `once` when nets but no flow are given.
        seeds: one for each profile, instead of `settings.seed` for the noise of its half; a ready flow has to come with them.

    Raises:
        UserError: a MODEL, nets or sizes that do not fit, or a MODEL that carries a profile already.
    """
    check_model(model, nets)
    if model.get_wrappers(WrappersMP.APPLY_MODEL, KEY):
        raise UserError(
            "The MODEL carries an IC-Portrait profile already; connect the MODEL from before the first 'Apply Portrait'."
        )
    if nets is not None and sampled is None:
        raise UserError("The nets look at the style crop's kept pixels: connect `sampled_image` from 'Sample Pixels'.")
    hint = None if nets is None else hint_pair(sampled, profile.image)
    if flow is not None:
        if (flow.offsets.shape[0], flow.height, flow.width) != tuple(profile.image.shape[:3]):
            raise UserError(
                f"The flow was estimated for one {flow.width} x {flow.height} crop, but the profile is "
                f"{profile.image.shape[2]} x {profile.image.shape[1]}. Estimate it from these crops."
            )
    elif nets is None:
        if settings.attention:
            raise UserError(
                "Attention along the flow needs a flow: connect `flow` from 'Mesh Flow' or 'Estimate Flow', connect nets, or set "
                "`attention` to 0."
            )
    elif settings.flow_mode == "once":
        if style_latent is None:
            raise UserError(
                "A flow computed once needs the style crop: connect `flow` from 'Estimate flow', or `style_latent` from "
                "'VAE Encode', or set the flow mode to 'each step'."
            )
        check_style_latent(style_latent, profile)
    patch = PortraitPatch(nets, profile, hint, settings, flow, style_latent, seeds)
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, patch.outer_sample)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, patch.prepare_sampling)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, patch.calc_cond_batch)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, patch.apply_model)
    patched.set_additional_models(KEY, [net.patcher for net in patch.used_nets])
    return patched
