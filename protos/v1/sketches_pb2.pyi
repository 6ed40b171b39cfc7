from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Sketch(_message.Message):
    __slots__ = ("frames", "labels", "confidences", "looked_at", "channels")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCES_FIELD_NUMBER: _ClassVar[int]
    LOOKED_AT_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    frames: int
    labels: _containers.RepeatedScalarFieldContainer[int]
    confidences: _containers.RepeatedScalarFieldContainer[int]
    looked_at: int
    channels: _containers.RepeatedCompositeFieldContainer[ChannelSketch]
    def __init__(self, frames: _Optional[int] = ..., labels: _Optional[_Iterable[int]] = ..., confidences: _Optional[_Iterable[int]] = ..., looked_at: _Optional[int] = ..., channels: _Optional[_Iterable[_Union[ChannelSketch, _Mapping]]] = ...) -> None: ...

class ChannelSketch(_message.Message):
    __slots__ = ("means", "mean_squares", "squares", "min", "max")
    MEANS_FIELD_NUMBER: _ClassVar[int]
    MEAN_SQUARES_FIELD_NUMBER: _ClassVar[int]
    SQUARES_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    means: float
    mean_squares: float
    squares: float
    min: int
    max: int
    def __init__(self, means: _Optional[float] = ..., mean_squares: _Optional[float] = ..., squares: _Optional[float] = ..., min: _Optional[int] = ..., max: _Optional[int] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("variant", "sketch")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    SKETCH_FIELD_NUMBER: _ClassVar[int]
    variant: str
    sketch: Sketch
    def __init__(self, variant: _Optional[str] = ..., sketch: _Optional[_Union[Sketch, _Mapping]] = ...) -> None: ...

class Drift(_message.Message):
    __slots__ = ("slot", "model", "version", "manifest", "variant", "began_ms", "ended_ms", "sketch", "alarm")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    BEGAN_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    SKETCH_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    slot: str
    model: str
    version: int
    manifest: bytes
    variant: str
    began_ms: int
    ended_ms: int
    sketch: Sketch
    alarm: str
    def __init__(self, slot: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., manifest: _Optional[bytes] = ..., variant: _Optional[str] = ..., began_ms: _Optional[int] = ..., ended_ms: _Optional[int] = ..., sketch: _Optional[_Union[Sketch, _Mapping]] = ..., alarm: _Optional[str] = ...) -> None: ...

class Comparison(_message.Message):
    __slots__ = ("slot", "generation", "champion", "challenger", "began_ms", "measured_ms", "offered", "compared", "agreed", "champion_label", "challenger_label", "pair_frames", "confidence_change", "champion_confidence", "challenger_confidence", "champion_cost", "challenger_cost", "ended", "share")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_FIELD_NUMBER: _ClassVar[int]
    BEGAN_MS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_MS_FIELD_NUMBER: _ClassVar[int]
    OFFERED_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_LABEL_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_LABEL_FIELD_NUMBER: _ClassVar[int]
    PAIR_FRAMES_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_COST_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_COST_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    slot: str
    generation: int
    champion: bytes
    challenger: bytes
    began_ms: int
    measured_ms: int
    offered: int
    compared: int
    agreed: int
    champion_label: _containers.RepeatedScalarFieldContainer[int]
    challenger_label: _containers.RepeatedScalarFieldContainer[int]
    pair_frames: _containers.RepeatedScalarFieldContainer[int]
    confidence_change: _containers.RepeatedScalarFieldContainer[int]
    champion_confidence: float
    challenger_confidence: float
    champion_cost: _containers.RepeatedScalarFieldContainer[int]
    challenger_cost: _containers.RepeatedScalarFieldContainer[int]
    ended: str
    share: float
    def __init__(self, slot: _Optional[str] = ..., generation: _Optional[int] = ..., champion: _Optional[bytes] = ..., challenger: _Optional[bytes] = ..., began_ms: _Optional[int] = ..., measured_ms: _Optional[int] = ..., offered: _Optional[int] = ..., compared: _Optional[int] = ..., agreed: _Optional[int] = ..., champion_label: _Optional[_Iterable[int]] = ..., challenger_label: _Optional[_Iterable[int]] = ..., pair_frames: _Optional[_Iterable[int]] = ..., confidence_change: _Optional[_Iterable[int]] = ..., champion_confidence: _Optional[float] = ..., challenger_confidence: _Optional[float] = ..., champion_cost: _Optional[_Iterable[int]] = ..., challenger_cost: _Optional[_Iterable[int]] = ..., ended: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...
