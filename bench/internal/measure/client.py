"""Calls User of two ids on each of several servers in turn, as a program with
nothing but grpcio and the contract's generated code would, one call after the
other, and prints every call's nanoseconds as JSON: a list for each server.

    python client.py GENERATED_CODE BLOCKS CALLS HOST:PORT...
"""

import json
import sys
import time


def main() -> None:
    generated, blocks, calls, *addresses = sys.argv[1:]
    sys.path.insert(0, generated)
    import api_pb2
    import api_pb2_grpc
    import grpc

    services = [
        api_pb2_grpc.MyServiceStub(grpc.insecure_channel(address))
        for address in addresses
    ]
    times: list[list[int]] = [[] for _ in services]
    for service in services:  # the connection, and what is made at the first calls
        for _ in range(100):
            service.User(api_pb2.UserReq(userIDs=[1, 2]), timeout=10)
    for _ in range(int(blocks)):
        for service, mine in zip(services, times):
            for _ in range(int(calls)):
                began = time.perf_counter_ns()
                reply = service.User(api_pb2.UserReq(userIDs=[1, 2]), timeout=10)
                mine.append(time.perf_counter_ns() - began)
                if len(reply.data) != 2:
                    raise SystemExit(f"{len(reply.data)} users for two ids")
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main()
