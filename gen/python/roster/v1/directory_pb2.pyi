from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BatchGetUsersRequest(_message.Message):
    __slots__ = ["ids", "min_revision"]
    IDS_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    min_revision: int
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., min_revision: _Optional[int] = ...) -> None: ...

class BatchGetUsersResponse(_message.Message):
    __slots__ = ["unknown_ids", "users"]
    UNKNOWN_IDS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    unknown_ids: _containers.RepeatedScalarFieldContainer[int]
    users: _containers.RepeatedCompositeFieldContainer[User]
    def __init__(self, users: _Optional[_Iterable[_Union[User, _Mapping]]] = ..., unknown_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class BatchUpdateUsersRequest(_message.Message):
    __slots__ = ["creates", "deletes", "updates", "validate_only"]
    CREATES_FIELD_NUMBER: _ClassVar[int]
    DELETES_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    creates: _containers.RepeatedCompositeFieldContainer[CreateUserRequest]
    deletes: _containers.RepeatedCompositeFieldContainer[DeleteUserRequest]
    updates: _containers.RepeatedCompositeFieldContainer[UpdateUserRequest]
    validate_only: bool
    def __init__(self, creates: _Optional[_Iterable[_Union[CreateUserRequest, _Mapping]]] = ..., updates: _Optional[_Iterable[_Union[UpdateUserRequest, _Mapping]]] = ..., deletes: _Optional[_Iterable[_Union[DeleteUserRequest, _Mapping]]] = ..., validate_only: bool = ...) -> None: ...

class BatchUpdateUsersResponse(_message.Message):
    __slots__ = ["created", "epoch", "revision", "updated"]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    created: _containers.RepeatedCompositeFieldContainer[User]
    epoch: str
    revision: int
    updated: _containers.RepeatedCompositeFieldContainer[User]
    def __init__(self, created: _Optional[_Iterable[_Union[User, _Mapping]]] = ..., updated: _Optional[_Iterable[_Union[User, _Mapping]]] = ..., revision: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ["actor", "id", "kind", "revision", "time", "user"]
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_CREATED: Change.Kind
    KIND_DELETED: Change.Kind
    KIND_EXISTING: Change.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    KIND_LEFT: Change.Kind
    KIND_UNSPECIFIED: Change.Kind
    KIND_UPDATED: Change.Kind
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    actor: str
    id: int
    kind: Change.Kind
    revision: int
    time: _timestamp_pb2.Timestamp
    user: User
    def __init__(self, kind: _Optional[_Union[Change.Kind, str]] = ..., id: _Optional[int] = ..., user: _Optional[_Union[User, _Mapping]] = ..., revision: _Optional[int] = ..., actor: _Optional[str] = ..., time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateUserRequest(_message.Message):
    __slots__ = ["user", "validate_only"]
    USER_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    user: User
    validate_only: bool
    def __init__(self, user: _Optional[_Union[User, _Mapping]] = ..., validate_only: bool = ...) -> None: ...

class DeleteUserRequest(_message.Message):
    __slots__ = ["allow_missing", "etag", "id", "validate_only"]
    ALLOW_MISSING_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    allow_missing: bool
    etag: str
    id: int
    validate_only: bool
    def __init__(self, id: _Optional[int] = ..., etag: _Optional[str] = ..., allow_missing: bool = ..., validate_only: bool = ...) -> None: ...

class DeleteUserResponse(_message.Message):
    __slots__ = ["epoch", "revision"]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    revision: int
    def __init__(self, revision: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class ExportUsersRequest(_message.Message):
    __slots__ = ["filter"]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    filter: str
    def __init__(self, filter: _Optional[str] = ...) -> None: ...

class ExportUsersResponse(_message.Message):
    __slots__ = ["epoch", "revision", "users"]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    revision: int
    users: _containers.RepeatedCompositeFieldContainer[User]
    def __init__(self, users: _Optional[_Iterable[_Union[User, _Mapping]]] = ..., revision: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class GetUserRequest(_message.Message):
    __slots__ = ["id", "min_revision"]
    ID_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    id: int
    min_revision: int
    def __init__(self, id: _Optional[int] = ..., min_revision: _Optional[int] = ...) -> None: ...

class ImportOptions(_message.Message):
    __slots__ = ["atomic", "max_removals", "mirror", "validate_only"]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    MAX_REMOVALS_FIELD_NUMBER: _ClassVar[int]
    MIRROR_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    atomic: bool
    max_removals: int
    mirror: bool
    validate_only: bool
    def __init__(self, atomic: bool = ..., mirror: bool = ..., max_removals: _Optional[int] = ..., validate_only: bool = ...) -> None: ...

class ImportUsersRequest(_message.Message):
    __slots__ = ["options", "users"]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    options: ImportOptions
    users: _containers.RepeatedCompositeFieldContainer[User]
    def __init__(self, users: _Optional[_Iterable[_Union[User, _Mapping]]] = ..., options: _Optional[_Union[ImportOptions, _Mapping]] = ...) -> None: ...

class ImportUsersResponse(_message.Message):
    __slots__ = ["created", "epoch", "imported", "refused", "refused_rows", "removed", "revision", "unchanged", "updated"]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IMPORTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_ROWS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    created: int
    epoch: str
    imported: int
    refused: int
    refused_rows: _containers.RepeatedCompositeFieldContainer[RefusedRow]
    removed: int
    revision: int
    unchanged: int
    updated: int
    def __init__(self, imported: _Optional[int] = ..., refused: _Optional[int] = ..., refused_rows: _Optional[_Iterable[_Union[RefusedRow, _Mapping]]] = ..., revision: _Optional[int] = ..., epoch: _Optional[str] = ..., created: _Optional[int] = ..., updated: _Optional[int] = ..., unchanged: _Optional[int] = ..., removed: _Optional[int] = ...) -> None: ...

class ListChangesRequest(_message.Message):
    __slots__ = ["epoch", "from_revision", "page_size", "page_token"]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FROM_REVISION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    from_revision: int
    page_size: int
    page_token: str
    def __init__(self, from_revision: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., epoch: _Optional[str] = ...) -> None: ...

class ListChangesResponse(_message.Message):
    __slots__ = ["changes", "epoch", "next_page_token", "oldest_revision", "revision"]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OLDEST_REVISION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    epoch: str
    next_page_token: str
    oldest_revision: int
    revision: int
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., revision: _Optional[int] = ..., epoch: _Optional[str] = ..., oldest_revision: _Optional[int] = ...) -> None: ...

class ListUsersRequest(_message.Message):
    __slots__ = ["filter", "min_revision", "order_by", "page_size", "page_token", "show_total"]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SHOW_TOTAL_FIELD_NUMBER: _ClassVar[int]
    filter: str
    min_revision: int
    order_by: str
    page_size: int
    page_token: str
    show_total: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ..., order_by: _Optional[str] = ..., show_total: bool = ..., min_revision: _Optional[int] = ...) -> None: ...

class ListUsersResponse(_message.Message):
    __slots__ = ["epoch", "next_page_token", "revision", "total_size", "users"]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    next_page_token: str
    revision: int
    total_size: int
    users: _containers.RepeatedCompositeFieldContainer[User]
    def __init__(self, users: _Optional[_Iterable[_Union[User, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., revision: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ["epoch", "revision"]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    revision: int
    def __init__(self, revision: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class RefusedRow(_message.Message):
    __slots__ = ["id", "reason", "row"]
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    id: int
    reason: str
    row: int
    def __init__(self, row: _Optional[int] = ..., id: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class UpdateUserRequest(_message.Message):
    __slots__ = ["update_mask", "user", "validate_only"]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    update_mask: _field_mask_pb2.FieldMask
    user: User
    validate_only: bool
    def __init__(self, user: _Optional[_Union[User, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: bool = ...) -> None: ...

class User(_message.Message):
    __slots__ = ["age", "create_time", "email", "etag", "id", "name", "revision", "update_time"]
    AGE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    age: int
    create_time: _timestamp_pb2.Timestamp
    email: str
    etag: str
    id: int
    name: str
    revision: int
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., age: _Optional[int] = ..., email: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class WatchUsersRequest(_message.Message):
    __slots__ = ["epoch", "filter", "from_beginning", "from_revision", "progress_interval"]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FROM_BEGINNING_FIELD_NUMBER: _ClassVar[int]
    FROM_REVISION_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    filter: str
    from_beginning: bool
    from_revision: int
    progress_interval: _duration_pb2.Duration
    def __init__(self, from_revision: _Optional[int] = ..., from_beginning: bool = ..., epoch: _Optional[str] = ..., filter: _Optional[str] = ..., progress_interval: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchUsersResponse(_message.Message):
    __slots__ = ["change", "progress"]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    change: Change
    progress: Progress
    def __init__(self, change: _Optional[_Union[Change, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...
