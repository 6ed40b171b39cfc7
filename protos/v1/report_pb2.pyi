from protos.v1 import manifest_pb2 as _manifest_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UpdateState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPDATE_STATE_UNSPECIFIED: _ClassVar[UpdateState]
    UPDATE_STATE_IDLE: _ClassVar[UpdateState]
    UPDATE_STATE_DOWNLOADING: _ClassVar[UpdateState]
    UPDATE_STATE_VERIFYING: _ClassVar[UpdateState]
    UPDATE_STATE_STAGED: _ClassVar[UpdateState]
    UPDATE_STATE_TRIAL: _ClassVar[UpdateState]
    UPDATE_STATE_COMMITTED: _ClassVar[UpdateState]
    UPDATE_STATE_ROLLED_BACK: _ClassVar[UpdateState]
    UPDATE_STATE_REFUSED: _ClassVar[UpdateState]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_COMMITTED: _ClassVar[Outcome]
    OUTCOME_REFUSED: _ClassVar[Outcome]
    OUTCOME_ROLLED_BACK: _ClassVar[Outcome]
UPDATE_STATE_UNSPECIFIED: UpdateState
UPDATE_STATE_IDLE: UpdateState
UPDATE_STATE_DOWNLOADING: UpdateState
UPDATE_STATE_VERIFYING: UpdateState
UPDATE_STATE_STAGED: UpdateState
UPDATE_STATE_TRIAL: UpdateState
UPDATE_STATE_COMMITTED: UpdateState
UPDATE_STATE_ROLLED_BACK: UpdateState
UPDATE_STATE_REFUSED: UpdateState
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_COMMITTED: Outcome
OUTCOME_REFUSED: Outcome
OUTCOME_ROLLED_BACK: Outcome

class Report(_message.Message):
    __slots__ = ("device", "public_key", "labels", "agent_version", "slots", "reported_ms", "uplink", "alarms", "hardware")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    REPORTED_MS_FIELD_NUMBER: _ClassVar[int]
    UPLINK_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    device: str
    public_key: bytes
    labels: _containers.ScalarMap[str, str]
    agent_version: str
    slots: _containers.RepeatedCompositeFieldContainer[SlotState]
    reported_ms: int
    uplink: str
    alarms: _containers.RepeatedScalarFieldContainer[str]
    hardware: str
    def __init__(self, device: _Optional[str] = ..., public_key: _Optional[bytes] = ..., labels: _Optional[_Mapping[str, str]] = ..., agent_version: _Optional[str] = ..., slots: _Optional[_Iterable[_Union[SlotState, _Mapping]]] = ..., reported_ms: _Optional[int] = ..., uplink: _Optional[str] = ..., alarms: _Optional[_Iterable[str]] = ..., hardware: _Optional[str] = ...) -> None: ...

class SlotState(_message.Message):
    __slots__ = ("slot", "state", "generation", "manifest", "reason", "running", "running_model", "running_version", "chunks_total", "chunks_present", "receipt", "variant", "variants", "threads")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_MODEL_FIELD_NUMBER: _ClassVar[int]
    RUNNING_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_PRESENT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    slot: str
    state: UpdateState
    generation: int
    manifest: bytes
    reason: str
    running: bytes
    running_model: str
    running_version: int
    chunks_total: int
    chunks_present: int
    receipt: _manifest_pb2.Signed
    variant: str
    variants: _containers.RepeatedCompositeFieldContainer[VariantMeasured]
    threads: int
    def __init__(self, slot: _Optional[str] = ..., state: _Optional[_Union[UpdateState, str]] = ..., generation: _Optional[int] = ..., manifest: _Optional[bytes] = ..., reason: _Optional[str] = ..., running: _Optional[bytes] = ..., running_model: _Optional[str] = ..., running_version: _Optional[int] = ..., chunks_total: _Optional[int] = ..., chunks_present: _Optional[int] = ..., receipt: _Optional[_Union[_manifest_pb2.Signed, _Mapping]] = ..., variant: _Optional[str] = ..., variants: _Optional[_Iterable[_Union[VariantMeasured, _Mapping]]] = ..., threads: _Optional[int] = ...) -> None: ...

class VariantMeasured(_message.Message):
    __slots__ = ("variant", "problem", "single_us", "frame_us", "accuracy", "threads", "measured_in")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SINGLE_US_FIELD_NUMBER: _ClassVar[int]
    FRAME_US_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_IN_FIELD_NUMBER: _ClassVar[int]
    variant: str
    problem: str
    single_us: float
    frame_us: float
    accuracy: float
    threads: int
    measured_in: int
    def __init__(self, variant: _Optional[str] = ..., problem: _Optional[str] = ..., single_us: _Optional[float] = ..., frame_us: _Optional[float] = ..., accuracy: _Optional[float] = ..., threads: _Optional[int] = ..., measured_in: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("device", "slot", "generation", "manifest", "artifact", "variant", "outcome", "reason", "golden_outputs", "issued_ms")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_MS_FIELD_NUMBER: _ClassVar[int]
    device: str
    slot: str
    generation: int
    manifest: bytes
    artifact: bytes
    variant: str
    outcome: Outcome
    reason: str
    golden_outputs: bytes
    issued_ms: int
    def __init__(self, device: _Optional[str] = ..., slot: _Optional[str] = ..., generation: _Optional[int] = ..., manifest: _Optional[bytes] = ..., artifact: _Optional[bytes] = ..., variant: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[str] = ..., golden_outputs: _Optional[bytes] = ..., issued_ms: _Optional[int] = ...) -> None: ...
