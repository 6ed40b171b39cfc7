from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class MetadataIndex(_message.Message):
    __slots__ = ("root", "timestamp")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    root: int
    timestamp: int
    def __init__(self, root: _Optional[int] = ..., timestamp: _Optional[int] = ...) -> None: ...
