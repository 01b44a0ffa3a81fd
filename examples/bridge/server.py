"""A plain grpcio server of jobs.proto. It knows nothing of Roster."""

import argparse
import itertools
import signal
import sys
import threading
import time
from concurrent import futures

import grpc
import jobs_pb2
import jobs_pb2_grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection


class JobService(jobs_pb2_grpc.JobServiceServicer):
    def __init__(self):
        self.jobs = {}
        self.ids = itertools.count(1)

    def start(self, request):
        job = jobs_pb2.Job(id=next(self.ids), name=request.name)
        job.steps = request.steps or 1
        job.state = jobs_pb2.STATE_RUNNING
        job.started.GetCurrentTime()
        if request.HasField("payload"):
            job.payload.CopyFrom(request.payload)
        self.jobs[job.id] = job
        return job

    def finish(self, job):
        job.step = job.steps
        job.state = jobs_pb2.STATE_DONE
        job.result = job.name.encode()
        job.labels["done"] = "yes"
        return job

    def Submit(self, request, context):
        if not request.name:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a job needs a name")
        return self.start(request)

    def Get(self, request, context):
        if request.id not in self.jobs:
            context.set_trailing_metadata((("job-id-bin", b"\x00\x01\xff"),))
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no job {request.id}")
        return self.jobs[request.id]

    def Watch(self, request, context):
        job = self.jobs.get(request.id)
        if job is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no job {request.id}")
        while job.step < job.steps and context.is_active():
            yield job
            time.sleep(0.05)
            job.step += 1
        yield self.finish(job)

    def SubmitAll(self, requests, context):
        ids = [self.start(request).id for request in requests]
        return jobs_pb2.SubmitAllResponse(submitted=len(ids), ids=ids)

    def Run(self, requests, context):
        for request in requests:
            yield self.finish(self.start(request))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="localhost:50052")
    address = parser.parse_args().address

    workers = futures.ThreadPoolExecutor(max_workers=20)
    # Two servers on one port would share its connections.
    server = grpc.server(workers, options=[("grpc.so_reuseport", 0)])
    jobs_pb2_grpc.add_JobServiceServicer_to_server(JobService(), server)
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    name = jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name
    reflection.enable_server_reflection((name, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port(address)
    server.start()
    host = address.rsplit(":", 1)[0]
    print(f"serving {name} on {host}:{port}", file=sys.stderr, flush=True)

    # Stop as a server behind a balancer should: say so, wait a moment, and let
    # running calls finish.
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    stopped.wait()
    healthy.enter_graceful_shutdown()
    time.sleep(0.5)
    server.stop(grace=10).wait()


if __name__ == "__main__":
    main()
