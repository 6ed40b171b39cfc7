from protos.v1 import sketches_pb2 as _sketches_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Delegate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELEGATE_DEFAULT: _ClassVar[Delegate]
    DELEGATE_NONE: _ClassVar[Delegate]

class PatchKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PATCH_KIND_UNSPECIFIED: _ClassVar[PatchKind]
    PATCH_KIND_DIFFERENCE: _ClassVar[PatchKind]
    PATCH_KIND_DICTIONARY: _ClassVar[PatchKind]

class Compression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_UNSPECIFIED: _ClassVar[Compression]
    COMPRESSION_NONE: _ClassVar[Compression]
    COMPRESSION_ZSTD: _ClassVar[Compression]

class Colour(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COLOUR_UNSPECIFIED: _ClassVar[Colour]
    COLOUR_RGB: _ClassVar[Colour]
    COLOUR_BGR: _ClassVar[Colour]
    COLOUR_GREY: _ClassVar[Colour]
DELEGATE_DEFAULT: Delegate
DELEGATE_NONE: Delegate
PATCH_KIND_UNSPECIFIED: PatchKind
PATCH_KIND_DIFFERENCE: PatchKind
PATCH_KIND_DICTIONARY: PatchKind
COMPRESSION_UNSPECIFIED: Compression
COMPRESSION_NONE: Compression
COMPRESSION_ZSTD: Compression
COLOUR_UNSPECIFIED: Colour
COLOUR_RGB: Colour
COLOUR_BGR: Colour
COLOUR_GREY: Colour

class Signed(_message.Message):
    __slots__ = ("payload", "signatures")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[Signature]
    def __init__(self, payload: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[Signature, _Mapping]]] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("key_id", "value")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    value: bytes
    def __init__(self, key_id: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("model", "version", "variants", "preprocessing", "labels", "metrics", "golden", "lineage", "created_ms", "requirements", "references", "accuracy_floor")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FLOOR_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    variants: _containers.RepeatedCompositeFieldContainer[Variant]
    preprocessing: Preprocessing
    labels: _containers.RepeatedScalarFieldContainer[str]
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    golden: _containers.RepeatedCompositeFieldContainer[GoldenVector]
    lineage: Lineage
    created_ms: int
    requirements: Requirements
    references: _containers.RepeatedCompositeFieldContainer[_sketches_pb2.Reference]
    accuracy_floor: float
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., variants: _Optional[_Iterable[_Union[Variant, _Mapping]]] = ..., preprocessing: _Optional[_Union[Preprocessing, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., golden: _Optional[_Iterable[_Union[GoldenVector, _Mapping]]] = ..., lineage: _Optional[_Union[Lineage, _Mapping]] = ..., created_ms: _Optional[int] = ..., requirements: _Optional[_Union[Requirements, _Mapping]] = ..., references: _Optional[_Iterable[_Union[_sketches_pb2.Reference, _Mapping]]] = ..., accuracy_floor: _Optional[float] = ...) -> None: ...

class Requirements(_message.Message):
    __slots__ = ("architectures", "agent_version", "operators")
    ARCHITECTURES_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    architectures: _containers.RepeatedScalarFieldContainer[str]
    agent_version: str
    operators: _containers.RepeatedCompositeFieldContainer[VariantOperators]
    def __init__(self, architectures: _Optional[_Iterable[str]] = ..., agent_version: _Optional[str] = ..., operators: _Optional[_Iterable[_Union[VariantOperators, _Mapping]]] = ...) -> None: ...

class VariantOperators(_message.Message):
    __slots__ = ("variant", "operators")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    variant: str
    operators: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, variant: _Optional[str] = ..., operators: _Optional[_Iterable[str]] = ...) -> None: ...

class Variant(_message.Message):
    __slots__ = ("name", "artifact", "input", "output", "delegate", "threads", "accuracy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    DELEGATE_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    name: str
    artifact: Artifact
    input: TensorSpec
    output: TensorSpec
    delegate: Delegate
    threads: int
    accuracy: float
    def __init__(self, name: _Optional[str] = ..., artifact: _Optional[_Union[Artifact, _Mapping]] = ..., input: _Optional[_Union[TensorSpec, _Mapping]] = ..., output: _Optional[_Union[TensorSpec, _Mapping]] = ..., delegate: _Optional[_Union[Delegate, str]] = ..., threads: _Optional[int] = ..., accuracy: _Optional[float] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("digest", "size", "compression", "chunks", "patches")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    size: int
    compression: Compression
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkRef]
    patches: _containers.RepeatedCompositeFieldContainer[Patch]
    def __init__(self, digest: _Optional[bytes] = ..., size: _Optional[int] = ..., compression: _Optional[_Union[Compression, str]] = ..., chunks: _Optional[_Iterable[_Union[ChunkRef, _Mapping]]] = ..., patches: _Optional[_Iterable[_Union[Patch, _Mapping]]] = ...) -> None: ...

class Patch(_message.Message):
    __slots__ = ("base", "digest", "kind", "chunks")
    BASE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    base: bytes
    digest: bytes
    kind: PatchKind
    chunks: _containers.RepeatedCompositeFieldContainer[ChunkRef]
    def __init__(self, base: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., kind: _Optional[_Union[PatchKind, str]] = ..., chunks: _Optional[_Iterable[_Union[ChunkRef, _Mapping]]] = ...) -> None: ...

class ChunkRef(_message.Message):
    __slots__ = ("digest", "size")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    size: int
    def __init__(self, digest: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class TensorSpec(_message.Message):
    __slots__ = ("shape", "dtype", "scale", "zero_point")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    scale: float
    zero_point: int
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., scale: _Optional[float] = ..., zero_point: _Optional[int] = ...) -> None: ...

class Preprocessing(_message.Message):
    __slots__ = ("frame_shape", "scale", "offset", "dtype", "colour", "resize", "crop", "mean", "deviation")
    FRAME_SHAPE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    COLOUR_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    DEVIATION_FIELD_NUMBER: _ClassVar[int]
    frame_shape: _containers.RepeatedScalarFieldContainer[int]
    scale: float
    offset: float
    dtype: str
    colour: Colour
    resize: Size
    crop: Size
    mean: _containers.RepeatedScalarFieldContainer[float]
    deviation: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, frame_shape: _Optional[_Iterable[int]] = ..., scale: _Optional[float] = ..., offset: _Optional[float] = ..., dtype: _Optional[str] = ..., colour: _Optional[_Union[Colour, str]] = ..., resize: _Optional[_Union[Size, _Mapping]] = ..., crop: _Optional[_Union[Size, _Mapping]] = ..., mean: _Optional[_Iterable[float]] = ..., deviation: _Optional[_Iterable[float]] = ...) -> None: ...

class Size(_message.Message):
    __slots__ = ("height", "width")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class GoldenVector(_message.Message):
    __slots__ = ("frame", "expected")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    frame: bytes
    expected: _containers.RepeatedCompositeFieldContainer[Expected]
    def __init__(self, frame: _Optional[bytes] = ..., expected: _Optional[_Iterable[_Union[Expected, _Mapping]]] = ...) -> None: ...

class Expected(_message.Message):
    __slots__ = ("variant", "output", "tolerance")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    variant: str
    output: bytes
    tolerance: float
    def __init__(self, variant: _Optional[str] = ..., output: _Optional[bytes] = ..., tolerance: _Optional[float] = ...) -> None: ...

class Lineage(_message.Message):
    __slots__ = ("dataset", "dataset_digest", "code_version", "training_run", "parameters", "restarts")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DATASET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    TRAINING_RUN_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    dataset_digest: bytes
    code_version: str
    training_run: str
    parameters: _containers.ScalarMap[str, str]
    restarts: int
    def __init__(self, dataset: _Optional[str] = ..., dataset_digest: _Optional[bytes] = ..., code_version: _Optional[str] = ..., training_run: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., restarts: _Optional[int] = ...) -> None: ...
