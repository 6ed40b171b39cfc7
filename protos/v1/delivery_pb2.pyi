from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class RepairRequest(_message.Message):
    __slots__ = ("artifact", "missing")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    artifact: bytes
    missing: bytes
    def __init__(self, artifact: _Optional[bytes] = ..., missing: _Optional[bytes] = ...) -> None: ...
