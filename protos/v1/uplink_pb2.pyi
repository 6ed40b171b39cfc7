from protos.v1 import samples_pb2 as _samples_pb2
from protos.v1 import sketches_pb2 as _sketches_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_RESULTS: _ClassVar[Kind]
    KIND_EVENTS: _ClassVar[Kind]
    KIND_TELEMETRY: _ClassVar[Kind]

class Packing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACKING_NONE: _ClassVar[Packing]
    PACKING_ZSTD: _ClassVar[Packing]

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_INFO: _ClassVar[Severity]
    SEVERITY_WARNING: _ClassVar[Severity]
    SEVERITY_ERROR: _ClassVar[Severity]
KIND_RESULTS: Kind
KIND_EVENTS: Kind
KIND_TELEMETRY: Kind
PACKING_NONE: Packing
PACKING_ZSTD: Packing
SEVERITY_INFO: Severity
SEVERITY_WARNING: Severity
SEVERITY_ERROR: Severity

class UplinkMessage(_message.Message):
    __slots__ = ("hello", "batch", "telemetry", "sample_offer", "sample_piece", "drift", "comparison", "books")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_OFFER_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_PIECE_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    BOOKS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    batch: Batch
    telemetry: Telemetry
    sample_offer: _samples_pb2.SampleOffer
    sample_piece: _samples_pb2.SamplePiece
    drift: _sketches_pb2.Drift
    comparison: _sketches_pb2.Comparison
    books: Books
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., telemetry: _Optional[_Union[Telemetry, _Mapping]] = ..., sample_offer: _Optional[_Union[_samples_pb2.SampleOffer, _Mapping]] = ..., sample_piece: _Optional[_Union[_samples_pb2.SamplePiece, _Mapping]] = ..., drift: _Optional[_Union[_sketches_pb2.Drift, _Mapping]] = ..., comparison: _Optional[_Union[_sketches_pb2.Comparison, _Mapping]] = ..., books: _Optional[_Union[Books, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("device", "epoch", "books", "lines")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BOOKS_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    device: str
    epoch: int
    books: Books
    lines: _containers.RepeatedCompositeFieldContainer[Line]
    def __init__(self, device: _Optional[str] = ..., epoch: _Optional[int] = ..., books: _Optional[_Union[Books, _Mapping]] = ..., lines: _Optional[_Iterable[_Union[Line, _Mapping]]] = ...) -> None: ...

class Line(_message.Message):
    __slots__ = ("kind", "epoch", "books")
    KIND_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BOOKS_FIELD_NUMBER: _ClassVar[int]
    kind: Kind
    epoch: int
    books: Books
    def __init__(self, kind: _Optional[_Union[Kind, str]] = ..., epoch: _Optional[int] = ..., books: _Optional[_Union[Books, _Mapping]] = ...) -> None: ...

class Books(_message.Message):
    __slots__ = ("last_seq", "before", "dropped", "waiting", "acknowledged", "kind")
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    last_seq: int
    before: int
    dropped: int
    waiting: int
    acknowledged: int
    kind: Kind
    def __init__(self, last_seq: _Optional[int] = ..., before: _Optional[int] = ..., dropped: _Optional[int] = ..., waiting: _Optional[int] = ..., acknowledged: _Optional[int] = ..., kind: _Optional[_Union[Kind, str]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("first_seq", "count", "payload", "packing", "kind")
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PACKING_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    first_seq: int
    count: int
    payload: bytes
    packing: Packing
    kind: Kind
    def __init__(self, first_seq: _Optional[int] = ..., count: _Optional[int] = ..., payload: _Optional[bytes] = ..., packing: _Optional[_Union[Packing, str]] = ..., kind: _Optional[_Union[Kind, str]] = ...) -> None: ...

class ResultBatch(_message.Message):
    __slots__ = ("count", "model", "version", "manifest", "source", "first_frame", "frame_offset", "first_captured_us", "captured_offset_us", "label", "confidence", "latency_us", "slot")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    FRAME_OFFSET_FIELD_NUMBER: _ClassVar[int]
    FIRST_CAPTURED_US_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_OFFSET_US_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_US_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    count: int
    model: str
    version: int
    manifest: bytes
    source: str
    first_frame: int
    frame_offset: bytes
    first_captured_us: int
    captured_offset_us: bytes
    label: bytes
    confidence: bytes
    latency_us: bytes
    slot: str
    def __init__(self, count: _Optional[int] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., manifest: _Optional[bytes] = ..., source: _Optional[str] = ..., first_frame: _Optional[int] = ..., frame_offset: _Optional[bytes] = ..., first_captured_us: _Optional[int] = ..., captured_offset_us: _Optional[bytes] = ..., label: _Optional[bytes] = ..., confidence: _Optional[bytes] = ..., latency_us: _Optional[bytes] = ..., slot: _Optional[str] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("happened_ms", "kind", "severity", "slot", "model", "version", "text", "times")
    HAPPENED_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    happened_ms: int
    kind: str
    severity: Severity
    slot: str
    model: str
    version: int
    text: str
    times: int
    def __init__(self, happened_ms: _Optional[int] = ..., kind: _Optional[str] = ..., severity: _Optional[_Union[Severity, str]] = ..., slot: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., text: _Optional[str] = ..., times: _Optional[int] = ...) -> None: ...

class TelemetryBatch(_message.Message):
    __slots__ = ("intervals",)
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    intervals: _containers.RepeatedCompositeFieldContainer[Telemetry]
    def __init__(self, intervals: _Optional[_Iterable[_Union[Telemetry, _Mapping]]] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("measured_ms", "interval_s", "inferences", "inference_errors", "latency_p50_us", "latency_p95_us", "outbox_rows", "outbox_bytes", "dropped", "resident_bytes", "model", "version", "frames_dropped", "model_crashes", "machine", "latency_counts", "queued_frames", "uptime_ms", "slots")
    MEASURED_MS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_ERRORS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_US_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P95_US_FIELD_NUMBER: _ClassVar[int]
    OUTBOX_ROWS_FIELD_NUMBER: _ClassVar[int]
    OUTBOX_BYTES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DROPPED_FIELD_NUMBER: _ClassVar[int]
    MODEL_CRASHES_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_COUNTS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    measured_ms: int
    interval_s: float
    inferences: int
    inference_errors: int
    latency_p50_us: int
    latency_p95_us: int
    outbox_rows: int
    outbox_bytes: int
    dropped: int
    resident_bytes: int
    model: str
    version: int
    frames_dropped: int
    model_crashes: int
    machine: Machine
    latency_counts: _containers.RepeatedScalarFieldContainer[int]
    queued_frames: int
    uptime_ms: int
    slots: _containers.RepeatedCompositeFieldContainer[SlotTelemetry]
    def __init__(self, measured_ms: _Optional[int] = ..., interval_s: _Optional[float] = ..., inferences: _Optional[int] = ..., inference_errors: _Optional[int] = ..., latency_p50_us: _Optional[int] = ..., latency_p95_us: _Optional[int] = ..., outbox_rows: _Optional[int] = ..., outbox_bytes: _Optional[int] = ..., dropped: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., frames_dropped: _Optional[int] = ..., model_crashes: _Optional[int] = ..., machine: _Optional[_Union[Machine, _Mapping]] = ..., latency_counts: _Optional[_Iterable[int]] = ..., queued_frames: _Optional[int] = ..., uptime_ms: _Optional[int] = ..., slots: _Optional[_Iterable[_Union[SlotTelemetry, _Mapping]]] = ...) -> None: ...

class Machine(_message.Message):
    __slots__ = ("processor", "memory", "memory_available", "disk", "disk_free", "temperature_c")
    PROCESSOR_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    MEMORY_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    processor: float
    memory: int
    memory_available: int
    disk: int
    disk_free: int
    temperature_c: float
    def __init__(self, processor: _Optional[float] = ..., memory: _Optional[int] = ..., memory_available: _Optional[int] = ..., disk: _Optional[int] = ..., disk_free: _Optional[int] = ..., temperature_c: _Optional[float] = ...) -> None: ...

class SlotTelemetry(_message.Message):
    __slots__ = ("slot", "model", "version", "inferences", "inference_errors", "latency_p50_us", "latency_p95_us", "frames_dropped", "model_crashes")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_ERRORS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_US_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P95_US_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DROPPED_FIELD_NUMBER: _ClassVar[int]
    MODEL_CRASHES_FIELD_NUMBER: _ClassVar[int]
    slot: str
    model: str
    version: int
    inferences: int
    inference_errors: int
    latency_p50_us: int
    latency_p95_us: int
    frames_dropped: int
    model_crashes: int
    def __init__(self, slot: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., inferences: _Optional[int] = ..., inference_errors: _Optional[int] = ..., latency_p50_us: _Optional[int] = ..., latency_p95_us: _Optional[int] = ..., frames_dropped: _Optional[int] = ..., model_crashes: _Optional[int] = ...) -> None: ...

class UplinkReply(_message.Message):
    __slots__ = ("welcome", "ack", "quarantined", "delay", "sample_policies", "sample_answer")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_POLICIES_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_ANSWER_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    quarantined: Quarantined
    delay: Delay
    sample_policies: _samples_pb2.SamplePolicies
    sample_answer: _samples_pb2.SampleAnswer
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., quarantined: _Optional[_Union[Quarantined, _Mapping]] = ..., delay: _Optional[_Union[Delay, _Mapping]] = ..., sample_policies: _Optional[_Union[_samples_pb2.SamplePolicies, _Mapping]] = ..., sample_answer: _Optional[_Union[_samples_pb2.SampleAnswer, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("watermark", "max_batch_bytes", "window", "packings", "marks")
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PACKINGS_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    watermark: int
    max_batch_bytes: int
    window: int
    packings: _containers.RepeatedScalarFieldContainer[Packing]
    marks: _containers.RepeatedCompositeFieldContainer[Mark]
    def __init__(self, watermark: _Optional[int] = ..., max_batch_bytes: _Optional[int] = ..., window: _Optional[int] = ..., packings: _Optional[_Iterable[_Union[Packing, str]]] = ..., marks: _Optional[_Iterable[_Union[Mark, _Mapping]]] = ...) -> None: ...

class Mark(_message.Message):
    __slots__ = ("kind", "watermark")
    KIND_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    kind: Kind
    watermark: int
    def __init__(self, kind: _Optional[_Union[Kind, str]] = ..., watermark: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("watermark", "kind")
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    watermark: int
    kind: Kind
    def __init__(self, watermark: _Optional[int] = ..., kind: _Optional[_Union[Kind, str]] = ...) -> None: ...

class Quarantined(_message.Message):
    __slots__ = ("first_seq", "reason", "kind")
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    first_seq: int
    reason: str
    kind: Kind
    def __init__(self, first_seq: _Optional[int] = ..., reason: _Optional[str] = ..., kind: _Optional[_Union[Kind, str]] = ...) -> None: ...

class Delay(_message.Message):
    __slots__ = ("milliseconds",)
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    milliseconds: int
    def __init__(self, milliseconds: _Optional[int] = ...) -> None: ...
