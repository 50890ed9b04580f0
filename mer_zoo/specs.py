"""InputSpec: what a network eats, complete enough to cook it from raw frames."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mer_zoo.errors import InputError
from mer_zoo.options import is_whole

Kind = Literal["flow", "phases", "clip", "difference", "image", "pair", "dynamic"]
Scaling = Literal["linear", "channel_min_max"]

FLOW_CHANNELS = ("u", "v", "strain")
FRAME_CHANNELS = ("grey", "red", "green", "blue")
FLOW_METHODS = ("dis", "farneback", "tvl1", "raft")
INTERPOLATIONS = ("linear", "tim", "nearest")
FILTERS = ("butterworth", "ideal", "iir")


@dataclass(frozen=True)
class _Form:
    """What distinguishes a kind of input."""

    says: str
    flow: bool  # channels are u, v and strain, not grey levels
    least: int  # frames
    most: int | None
    signed: bool = False  # values lie on both sides of zero, so that they may have a gain


FORMS: dict[str, _Form] = {
    "flow": _Form("optical flow from onset to apex; of several frames, from onset to each", True, 1, None),
    "phases": _Form("optical flow from onset to apex, and from apex to offset", True, 2, 2),
    "clip": _Form("frames, evenly spaced from onset to offset", False, 1, None),
    "difference": _Form("every frame minus the first, evenly spaced from onset to offset", False, 2, None, signed=True),
    "image": _Form("the apex frame", False, 1, 1),
    "pair": _Form("the onset frame and the apex frame", False, 2, 2),
    "dynamic": _Form("a dynamic image: all frames ranked in time and added up", False, 1, 1, signed=True),
}


@dataclass(frozen=True)
class InputSpec:
    """What a network eats, complete enough to cook it from raw frames.

    Attributes:
        kind: ``flow``: optical flow from onset to apex, a tensor (C, H, W); with ``frames`` above 1 from the onset to
            each of so many later frames, evenly spaced, (C, T, H, W). ``phases``: flow from onset to apex and from
            apex to offset, (C, 2, H, W). ``clip``: frames, (C, T, H, W). ``difference``: every frame minus the first,
            (C, T, H, W). ``image``: the apex frame, (C, H, W). ``pair``: onset and apex frame, (C, 2, H, W).
            ``dynamic``: one image of how all frames change, (C, H, W); see ``mer_zoo.preprocessing.forms``.
        channels: Names in the order of the tensor: of flow ``u``, ``v``, ``strain``, of frames ``grey``, or ``red``,
            ``green``, ``blue``. A network made for another number of channels has ``channel0``, ``channel1``, …
            instead, which say that nothing is known about them.
        size: Height and width in pixels.
        frames: Number of frames, evenly spaced from onset to offset; 1 for one image, 2 for two.
        low: The least value of the tensor.
        high: The greatest.
        scaling: ``linear``: grey levels 0..255 go to ``low..high``, or for differences and dynamic images, which lie
            in -255..255, value / 255 * ``gain`` clipped to ``low..high``; flow stays in pixels, strain without unit,
            clipped to ``low..high``. ``channel_min_max``: each channel of each clip is stretched so that its minimum
            is ``low`` and its maximum ``high``; of two phases or several flows, each by itself.
        gain: Factor on differences and dynamic images, since a micro-expression moves grey levels by little.
        flow_method: The optical flow that the network was made for: ``dis`` (taken when flow says nothing),
            ``farneback``, ``tvl1`` or ``raft``; None for frames.
        interpolation: How frames become ``frames``: ``linear``, ``tim`` or ``nearest``; see
            ``mer_zoo.preprocessing.temporal``.
        magnification: Changes within ``band`` are made so many times larger before all else; 1 leaves them.
        band: Frequencies that are magnified, from and to, in Hz; see ``mer_zoo.preprocessing.magnify``.
        filter: Which filter takes them out: ``butterworth``, ``ideal`` or ``iir``.
        wavelength: Finer structure, in pixels of the face as it is cut out, is magnified less; 0: all alike.

    Raises:
        InputError: If the parts contradict each other.
    """

    kind: Kind
    channels: tuple[str, ...]
    size: int
    frames: int = 1
    low: float = 0.0
    high: float = 1.0
    scaling: Scaling = "linear"
    gain: float = 1.0
    flow_method: str | None = None
    interpolation: str = "linear"
    magnification: float = 1.0
    band: tuple[float, float] = (0.5, 10.0)
    filter: str = "butterworth"
    wavelength: float = 48.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "band", tuple(self.band) if isinstance(self.band, Iterable) else (self.band,))
        for name in ("low", "high", "gain", "magnification", "wavelength"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"An InputSpec cannot have {name} {value!r}; expected a finite number.")
        if self.kind not in FORMS:
            raise InputError(f"An InputSpec cannot have kind {self.kind!r}; expected one of {get_args(Kind)}.")
        if self.is_flow and self.flow_method is None:
            object.__setattr__(self, "flow_method", "dis")
        for sound, complaint in itertools.chain(self._checks(), self._checks_of_time()):  # each needs those before
            if not sound:
                raise InputError(f"An InputSpec cannot have {complaint}.")

    def _checks(self) -> Iterator[tuple[bool, str]]:
        """What must hold of channels and values, and what to say if it does not."""
        kind, channels, linear = self.kind, self.channels, self.scaling == "linear"
        allowed = FLOW_CHANNELS if self.is_flow else FRAME_CHANNELS
        yield len(channels) > 0, "no channels; expected at least one"
        yield len(set(channels)) == len(channels), f"channels {channels} name one twice"
        known = self.unnamed or all(c in allowed for c in channels)
        yield known, f"channels {channels}; a {kind} has {allowed}"
        yield is_whole(self.size, 1), f"size {self.size!r}; expected a positive whole number of pixels"
        yield self.low < self.high, f"values {self.low}..{self.high}; expected low below high"
        yield self.scaling in get_args(Scaling), f"scaling {self.scaling!r}; expected one of {get_args(Scaling)}"
        yield self.gain > 0, f"gain {self.gain}; expected a positive number"
        signed = FORMS[kind].signed and linear
        yield self.gain == 1 or signed, f"gain {self.gain} on a {kind}, {self.scaling}; it is for linear differences"
        both = f"differences from {self.low} up; they have both signs, so expected low below 0"
        yield not signed or self.low < 0, both
        methods = FLOW_METHODS if self.is_flow else (None,)
        wanted = FLOW_METHODS if self.is_flow else None
        yield self.flow_method in methods, f"flow_method {self.flow_method!r} on a {kind}; expected {wanted}"

    def _checks_of_time(self) -> Iterator[tuple[bool, str]]:
        """What must hold of frames and of what magnifies their changes."""
        form, frames = FORMS[self.kind], self.frames
        yield is_whole(frames, 1), f"frames {frames!r}; expected a positive whole number"
        exactly = f"{frames} frames of a {self.kind}; expected {form.least}: {form.says}"
        yield form.most is None or form.least <= frames <= form.most, exactly
        yield frames >= form.least, f"a {self.kind} of one frame; expected two frames or more"
        yield self.interpolation in INTERPOLATIONS, f"interpolation {self.interpolation!r}; expected {INTERPOLATIONS}"
        yield self.magnification >= 1, f"magnification {self.magnification}; expected 1 or more"
        numbers = all(isinstance(edge, int | float) and math.isfinite(edge) for edge in self.band)
        band = numbers and len(self.band) == 2 and 0 < self.band[0] < self.band[1]
        yield band, f"band {self.band}; expected two frequencies, 0 < low < high"
        yield self.filter in FILTERS, f"filter {self.filter!r}; expected one of {FILTERS}"
        yield self.wavelength >= 0, f"wavelength {self.wavelength}; expected pixels, 0 or more"

    @property
    def is_flow(self) -> bool:
        """Whether it is of optical flow, not of grey levels."""
        return FORMS[self.kind].flow

    @property
    def needs_apex(self) -> bool:
        """Whether the apex decides on what is eaten."""
        return self.kind in ("phases", "image", "pair") or (self.kind == "flow" and self.frames == 1)

    @property
    def unnamed(self) -> bool:
        """Whether the channels are only numbered, so that nothing can be cooked for them."""
        return self.channels == tuple(f"channel{i}" for i in range(len(self.channels)))

    @property
    def in_time(self) -> bool:
        """Whether the tensor has an axis of time."""
        return self.frames > 1 or self.kind == "clip"

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape without the batch, (C, H, W) for one image, else (C, T, H, W)."""
        time = (self.frames,) if self.in_time else ()
        return (len(self.channels), *time, self.size, self.size)

    def with_channels(self, number: int) -> "InputSpec":
        """The same for another number of channels; grey and colour frames keep names, others are numbered."""
        if number == len(self.channels):
            return self
        frames = {} if self.is_flow else {1: ("grey",), 3: ("red", "green", "blue")}
        return dataclasses.replace(self, channels=frames.get(number, tuple(f"channel{i}" for i in range(number))))

    def check(self, batch: Any) -> None:
        """Refuse a batch, tensor or array ``(B, *shape)``, whose shape or values this spec does not allow.

        Raises:
            InputError: If the shape differs, a value is not finite or lies outside ``low..high``, or everything
                lies in 0..1 where 0..255 is expected.
        """
        self.check_shape(batch)
        values = batch.detach() if hasattr(batch, "detach") else batch
        low, high = float(values.min()), float(values.max())
        slack = 1e-3 * (self.high - self.low)
        expected = f"expected {self.low:g}..{self.high:g} for channels {', '.join(self.channels)}"
        if not (self.low - slack <= low and high <= self.high + slack):
            raise InputError(f"The values span {low:g}..{high:g}; {expected}. Scale the input as its InputSpec says.")
        if self.high > 100 and 0 < high <= 1 and low >= 0:
            raise InputError(f"The values span {low:g}..{high:g}; {expected}. Do not divide by 255.")

    def check_shape(self, batch: Any) -> None:
        """Refuse a batch whose shape is not ``(B, *shape)``.

        Raises:
            InputError: If it is not, or if the batch is empty.
        """
        shape = tuple(batch.shape)
        if shape[1:] != self.shape or not shape[0]:
            raise InputError(
                f"The input has shape {shape}; expected (B, {', '.join(map(str, self.shape))}), a batch of one or more "
                f"with channels {', '.join(self.channels)}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "channels": list(self.channels), "band": list(self.band)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputSpec":
        """The spec that ``to_dict`` wrote.

        Raises:
            InputError: If a key is unknown or missing.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        if not required <= set(values) <= names:
            raise InputError(f"An InputSpec was saved with keys {sorted(values)}; expected among {sorted(names)}.")
        return cls(**values)
