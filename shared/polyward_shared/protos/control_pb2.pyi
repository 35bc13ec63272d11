from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[State]
    IDLE: _ClassVar[State]
    WORKING: _ClassVar[State]
    PAUSED: _ClassVar[State]
    TRAINER_AWAY: _ClassVar[State]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OTHER: _ClassVar[Phase]
    LOADING: _ClassVar[Phase]
    TRAINING: _ClassVar[Phase]
    TUNING: _ClassVar[Phase]
    MEASURING: _ClassVar[Phase]
    FETCHING: _ClassVar[Phase]
    CHECKING: _ClassVar[Phase]
    SENDING: _ClassVar[Phase]
    BESIDE: _ClassVar[Phase]

class Order(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOTHING: _ClassVar[Order]
    WAKE: _ClassVar[Order]
    CANCEL: _ClassVar[Order]
UNKNOWN: State
IDLE: State
WORKING: State
PAUSED: State
TRAINER_AWAY: State
OTHER: Phase
LOADING: Phase
TRAINING: Phase
TUNING: Phase
MEASURING: Phase
FETCHING: Phase
CHECKING: Phase
SENDING: Phase
BESIDE: Phase
NOTHING: Order
WAKE: Order
CANCEL: Order

class FromNode(_message.Message):
    __slots__ = ("hello", "status", "checkpoint", "withdrawal", "answer", "approvals", "timings")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    status: Status
    checkpoint: Checkpoint
    withdrawal: Withdrawal
    answer: Answer
    approvals: Approvals
    timings: Timings
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., withdrawal: _Optional[_Union[Withdrawal, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., approvals: _Optional[_Union[Approvals, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class FromHub(_message.Message):
    __slots__ = ("command", "receipt")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    command: Command
    receipt: Receipt
    def __init__(self, command: _Optional[_Union[Command, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "software")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    software: str
    def __init__(self, protocol: _Optional[int] = ..., software: _Optional[str] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("state", "work", "machine", "refusals")
    class RefusalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    state: State
    work: Work
    machine: Machine
    refusals: _containers.ScalarMap[str, int]
    def __init__(self, state: _Optional[_Union[State, str]] = ..., work: _Optional[_Union[Work, _Mapping]] = ..., machine: _Optional[_Union[Machine, _Mapping]] = ..., refusals: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Work(_message.Message):
    __slots__ = ("study", "round", "phase", "done", "of")
    STUDY_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    study: str
    round: int
    phase: Phase
    done: int
    of: int
    def __init__(self, study: _Optional[str] = ..., round: _Optional[int] = ..., phase: _Optional[_Union[Phase, str]] = ..., done: _Optional[int] = ..., of: _Optional[int] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("study", "round", "age_ms", "spans")
    STUDY_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    study: str
    round: int
    age_ms: int
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    def __init__(self, study: _Optional[str] = ..., round: _Optional[int] = ..., age_ms: _Optional[int] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("phase", "start_ms", "ms")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    phase: Phase
    start_ms: int
    ms: int
    def __init__(self, phase: _Optional[_Union[Phase, str]] = ..., start_ms: _Optional[int] = ..., ms: _Optional[int] = ...) -> None: ...

class Machine(_message.Message):
    __slots__ = ("cpu", "memory_used", "memory_total", "disk_free", "gpus")
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    cpu: float
    memory_used: int
    memory_total: int
    disk_free: int
    gpus: _containers.RepeatedCompositeFieldContainer[Gpu]
    def __init__(self, cpu: _Optional[float] = ..., memory_used: _Optional[int] = ..., memory_total: _Optional[int] = ..., disk_free: _Optional[int] = ..., gpus: _Optional[_Iterable[_Union[Gpu, _Mapping]]] = ...) -> None: ...

class Gpu(_message.Message):
    __slots__ = ("model", "memory_used", "memory_total", "busy")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    model: str
    memory_used: int
    memory_total: int
    busy: float
    def __init__(self, model: _Optional[str] = ..., memory_used: _Optional[int] = ..., memory_total: _Optional[int] = ..., busy: _Optional[float] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("count", "hash", "at", "signature")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    count: int
    hash: str
    at: str
    signature: bytes
    def __init__(self, count: _Optional[int] = ..., hash: _Optional[str] = ..., at: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("count", "hash", "at", "rounds", "head", "signature", "certificate")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    count: int
    hash: str
    at: str
    rounds: int
    head: str
    signature: bytes
    certificate: bytes
    def __init__(self, count: _Optional[int] = ..., hash: _Optional[str] = ..., at: _Optional[str] = ..., rounds: _Optional[int] = ..., head: _Optional[str] = ..., signature: _Optional[bytes] = ..., certificate: _Optional[bytes] = ...) -> None: ...

class Withdrawal(_message.Message):
    __slots__ = ("study",)
    STUDY_FIELD_NUMBER: _ClassVar[int]
    study: str
    def __init__(self, study: _Optional[str] = ...) -> None: ...

class Approvals(_message.Message):
    __slots__ = ("studies",)
    STUDIES_FIELD_NUMBER: _ClassVar[int]
    studies: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, studies: _Optional[_Iterable[str]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("id", "order", "study")
    ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    id: int
    order: Order
    study: str
    def __init__(self, id: _Optional[int] = ..., order: _Optional[_Union[Order, str]] = ..., study: _Optional[str] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("id", "obeyed")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBEYED_FIELD_NUMBER: _ClassVar[int]
    id: int
    obeyed: bool
    def __init__(self, id: _Optional[int] = ..., obeyed: _Optional[bool] = ...) -> None: ...

class CertificateRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    def __init__(self, request: _Optional[bytes] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...
