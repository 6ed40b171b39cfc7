from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Deployment(_message.Message):
    __slots__ = ("device", "slot", "model", "version", "manifest", "generation", "issued_ms", "expires_ms", "rollout", "shadow_share")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ISSUED_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_SHARE_FIELD_NUMBER: _ClassVar[int]
    device: str
    slot: str
    model: str
    version: int
    manifest: bytes
    generation: int
    issued_ms: int
    expires_ms: int
    rollout: str
    shadow_share: float
    def __init__(self, device: _Optional[str] = ..., slot: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., manifest: _Optional[bytes] = ..., generation: _Optional[int] = ..., issued_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ..., rollout: _Optional[str] = ..., shadow_share: _Optional[float] = ...) -> None: ...
