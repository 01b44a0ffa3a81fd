# Looks users up by roster.v1, whose users have their ids.
import grpc

from roster.v1 import directory_pb2, directory_pb2_grpc

with grpc.insecure_channel("localhost:50051") as channel:
    service = directory_pb2_grpc.DirectoryServiceStub(channel)
    request = directory_pb2.BatchGetUsersRequest(ids=[1, 2, 99999])
    reply = service.BatchGetUsers(request, timeout=10)

for user in reply.users:
    print(user.id, user.name, user.age, user.email)
print("nobody has", *reply.unknown_ids)
