from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Overload(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERLOAD_WAIT: _ClassVar[Overload]
    OVERLOAD_DROP_OLDEST: _ClassVar[Overload]
OVERLOAD_WAIT: Overload
OVERLOAD_DROP_OLDEST: Overload

class FramesMessage(_message.Message):
    __slots__ = ("hello", "batch")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    hello: FramesHello
    batch: FrameBatch
    def __init__(self, hello: _Optional[_Union[FramesHello, _Mapping]] = ..., batch: _Optional[_Union[FrameBatch, _Mapping]] = ...) -> None: ...

class FramesHello(_message.Message):
    __slots__ = ("source", "overload", "slot")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OVERLOAD_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    source: str
    overload: Overload
    slot: str
    def __init__(self, source: _Optional[str] = ..., overload: _Optional[_Union[Overload, str]] = ..., slot: _Optional[str] = ...) -> None: ...

class FrameBatch(_message.Message):
    __slots__ = ("first_frame", "count", "pixels", "first_captured_us", "captured_offset_us")
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    FIRST_CAPTURED_US_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_OFFSET_US_FIELD_NUMBER: _ClassVar[int]
    first_frame: int
    count: int
    pixels: bytes
    first_captured_us: int
    captured_offset_us: bytes
    def __init__(self, first_frame: _Optional[int] = ..., count: _Optional[int] = ..., pixels: _Optional[bytes] = ..., first_captured_us: _Optional[int] = ..., captured_offset_us: _Optional[bytes] = ...) -> None: ...

class FramesReply(_message.Message):
    __slots__ = ("watermark", "problem", "dropped")
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    watermark: int
    problem: str
    dropped: int
    def __init__(self, watermark: _Optional[int] = ..., problem: _Optional[str] = ..., dropped: _Optional[int] = ...) -> None: ...
