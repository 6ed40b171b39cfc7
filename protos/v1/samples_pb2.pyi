from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SamplePolicies(_message.Message):
    __slots__ = ("policies",)
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[SamplePolicy]
    def __init__(self, policies: _Optional[_Iterable[_Union[SamplePolicy, _Mapping]]] = ...) -> None: ...

class SamplePolicy(_message.Message):
    __slots__ = ("name", "model", "below", "disagreement", "share", "bytes_per_day")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BELOW_FIELD_NUMBER: _ClassVar[int]
    DISAGREEMENT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    below: float
    disagreement: bool
    share: float
    bytes_per_day: int
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., below: _Optional[float] = ..., disagreement: _Optional[bool] = ..., share: _Optional[float] = ..., bytes_per_day: _Optional[int] = ...) -> None: ...

class SampleOffer(_message.Message):
    __slots__ = ("id", "digest", "size", "source", "frame", "captured_us", "model", "version", "manifest", "label", "confidence", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_US_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: int
    digest: bytes
    size: int
    source: str
    frame: int
    captured_us: int
    model: str
    version: int
    manifest: bytes
    label: int
    confidence: float
    reason: str
    def __init__(self, id: _Optional[int] = ..., digest: _Optional[bytes] = ..., size: _Optional[int] = ..., source: _Optional[str] = ..., frame: _Optional[int] = ..., captured_us: _Optional[int] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., manifest: _Optional[bytes] = ..., label: _Optional[int] = ..., confidence: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class SamplePiece(_message.Message):
    __slots__ = ("id", "offset", "data")
    ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: int
    offset: int
    data: bytes
    def __init__(self, id: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SampleAnswer(_message.Message):
    __slots__ = ("id", "offset", "stored", "refused")
    ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    id: int
    offset: int
    stored: bool
    refused: str
    def __init__(self, id: _Optional[int] = ..., offset: _Optional[int] = ..., stored: _Optional[bool] = ..., refused: _Optional[str] = ...) -> None: ...
