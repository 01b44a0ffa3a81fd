"""Calls a job server (examples/bridge/jobs.proto) in all four kinds of call, with grpcio's own
stubs. Its arguments are the folder of the generated code and the address.
"""

import sys

import grpc

sys.path.insert(0, sys.argv[1])
import jobs_pb2 as pb
import jobs_pb2_grpc as rpc


def want(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"{what}: got {got!r}, want {wanted!r}")


def failure(call, request):
    """Makes a call that must fail, and returns its error."""
    try:
        reply = call(request, timeout=20)
    except grpc.RpcError as error:
        return error
    raise SystemExit(f"{request} was answered: {reply}")


def requests(names):
    return iter([pb.SubmitRequest(name=name) for name in names])


with grpc.insecure_channel(sys.argv[2]) as channel:
    stub = rpc.JobServiceStub(channel)
    first = pb.SubmitRequest(name="one", steps=2)
    job = stub.Submit(first, timeout=20, compression=grpc.Compression.Gzip)
    want("Get", stub.Get(pb.GetRequest(id=job.id), timeout=20).name, "one")
    watched = [change.state for change in stub.Watch(pb.GetRequest(id=job.id), timeout=20)]
    want("Watch", watched, [pb.STATE_RUNNING, pb.STATE_RUNNING, pb.STATE_DONE])
    want("SubmitAll", stub.SubmitAll(requests("abc"), timeout=20).submitted, 3)
    want("Run", [done.name for done in stub.Run(requests("xyz"), timeout=20)], ["x", "y", "z"])

    error = failure(stub.Get, pb.GetRequest(id=999_999))
    want("the code", error.code(), grpc.StatusCode.NOT_FOUND)
    want("the text", error.details(), "there is no job 999999")
    trailers = dict(error.trailing_metadata())
    want("the trailers", trailers.get("job-id-bin"), b"\x00\x01\xff")
    want(
        "the code",
        failure(stub.Submit, pb.SubmitRequest()).code(),
        grpc.StatusCode.INVALID_ARGUMENT,
    )
print("all calls were answered")
