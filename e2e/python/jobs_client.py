"""Calls a job server (examples/bridge/jobs.proto) in all four kinds of call, with grpcio's own
stubs. Its arguments are the folder of the generated code and the address.
"""

import sys

import grpc

sys.path.insert(0, sys.argv[1])
import jobs_pb2 as pb  # noqa: E402
import jobs_pb2_grpc as rpc  # noqa: E402

with grpc.insecure_channel(sys.argv[2]) as channel:
    stub = rpc.JobServiceStub(channel)
    job = stub.Submit(pb.SubmitRequest(name="one", steps=2), timeout=20, compression=grpc.Compression.Gzip)
    assert stub.Get(pb.GetRequest(id=job.id), timeout=20).name == "one"
    states = [change.state for change in stub.Watch(pb.GetRequest(id=job.id), timeout=20)]
    assert states[-1] == pb.STATE_DONE and len(states) == 3, states
    all_submitted = stub.SubmitAll(iter([pb.SubmitRequest(name=name) for name in "abc"]), timeout=20)
    assert all_submitted.submitted == 3, all_submitted
    done = [job.name for job in stub.Run(iter([pb.SubmitRequest(name=name) for name in "xyz"]), timeout=20)]
    assert done == ["x", "y", "z"], done
    try:
        stub.Get(pb.GetRequest(id=999_999), timeout=20)
        raise SystemExit("a job that does not exist was found")
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND and error.details() == "there is no job 999999", error
        assert ("job-id-bin", b"\x00\x01\xff") in error.trailing_metadata(), error.trailing_metadata()
    try:
        stub.Submit(pb.SubmitRequest(), timeout=20)
        raise SystemExit("a job without a name was taken")
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
print("all calls were answered")
