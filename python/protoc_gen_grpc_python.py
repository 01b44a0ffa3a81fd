"""A protoc plugin that writes the gRPC stubs for Python.

grpcio-tools has that generator only inside its own protoc, so buf cannot call
it directly. This plugin passes buf's request to that protoc as a descriptor
set, and returns to buf the files that it writes.
"""

import pathlib
import sys
import tempfile

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def main() -> None:
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    with tempfile.TemporaryDirectory() as scratch:
        descriptors = pathlib.Path(scratch, "request.binpb")
        descriptors.write_bytes(
            FileDescriptorSet(file=request.proto_file).SerializeToString()
        )
        out = pathlib.Path(scratch, "out")
        out.mkdir()
        code = protoc.main(
            [
                "protoc",
                f"--descriptor_set_in={descriptors}",
                f"--grpc_python_out={out}",
                *request.file_to_generate,
            ]
        )
        if code != 0:
            response.error = f"grpc_tools.protoc exited with {code}"
        for path in sorted(out.rglob("*.py")):
            response.file.add(
                name=path.relative_to(out).as_posix(), content=path.read_text()
            )
    sys.stdout.buffer.write(response.SerializeToString())


if __name__ == "__main__":
    main()
