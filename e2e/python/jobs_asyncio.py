"""The job server of examples/bridge on grpc.aio. Its arguments are the folder of the generated code
and the address.
"""

import asyncio
import sys

import grpc
from grpc_reflection.v1alpha import reflection

sys.path.insert(0, sys.argv[1])
import jobs_pb2 as pb
import jobs_pb2_grpc as rpc


class JobService(rpc.JobServiceServicer):
    def __init__(self):
        self.jobs = {}

    def start(self, request):
        job = pb.Job(id=len(self.jobs) + 1, name=request.name, steps=request.steps or 1)
        job.state = pb.STATE_RUNNING
        self.jobs[job.id] = job
        return job

    async def find(self, request, context):
        if request.id not in self.jobs:
            context.set_trailing_metadata((("job-id-bin", b"\x00\x01\xff"),))
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no job {request.id}")
        return self.jobs[request.id]

    async def Submit(self, request, context):
        if not request.name:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a job needs a name")
        return self.start(request)

    async def Get(self, request, context):
        return await self.find(request, context)

    async def Watch(self, request, context):
        job = await self.find(request, context)
        for step in range(job.steps):
            job.step = step
            yield job
            await asyncio.sleep(0.01)
        job.state = pb.STATE_DONE
        yield job

    async def SubmitAll(self, requests, context):
        ids = [self.start(request).id async for request in requests]
        return pb.SubmitAllResponse(submitted=len(ids), ids=ids)

    async def Run(self, requests, context):
        async for request in requests:
            job = self.start(request)
            job.state = pb.STATE_DONE
            yield job


async def main():
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    rpc.add_JobServiceServicer_to_server(JobService(), server)
    reflection.enable_server_reflection(("jobs.v1.JobService", reflection.SERVICE_NAME), server)
    port = server.add_insecure_port(sys.argv[2])
    await server.start()
    print(f"serving on 127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.wait_for_termination()


asyncio.run(main())
