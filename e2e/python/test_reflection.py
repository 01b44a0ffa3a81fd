"""A client without the contract: it learns it from the server, with grpcio-reflection."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pool, message_factory

grpc_reflection = pytest.importorskip(
    "grpc_reflection.v1alpha.proto_reflection_descriptor_database"
)

import grpc  # noqa: E402

from sample import Sample  # noqa: E402
from serving import PATIENCE, Roster  # noqa: E402


def message_class(descriptor: object) -> type:
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory().GetPrototype(descriptor)


def test_a_call_with_nothing_but_reflection(server: Roster, sample: Sample) -> None:
    with grpc.insecure_channel(server.address) as channel:
        database = grpc_reflection.ProtoReflectionDescriptorDatabase(channel)
        services = database.get_services()
        assert {
            "MyService",
            "roster.v1.DirectoryService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        } <= set(services)
        pool = descriptor_pool.DescriptorPool(database)
        for service in services:
            if "." in service:
                assert pool.FindServiceByName(service).methods
        # By its file: protobuf 4.21 finds no symbol without a package.
        assert pool.FindFileByName("api.proto").services_by_name["MyService"].methods

        method = pool.FindServiceByName("roster.v1.DirectoryService").FindMethodByName(
            "BatchGetUsers"
        )
        call = channel.unary_unary(
            "/roster.v1.DirectoryService/BatchGetUsers",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_class(method.output_type).FromString,
        )
        reply = call(message_class(method.input_type)(ids=[2, 1, 99_999]), timeout=PATIENCE)
        assert [(u.name, u.age, u.email) for u in reply.users] == sample.people([2, 1])
        assert list(reply.unknown_ids) == [99_999]
