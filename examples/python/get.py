# pip install grpcio grpcio-tools
# curl -O http://localhost:50051/api.proto
# python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. api.proto
import grpc

import api_pb2
import api_pb2_grpc

with grpc.insecure_channel("localhost:50051") as channel:
    service = api_pb2_grpc.MyServiceStub(channel)
    request = api_pb2.UserReq(userIDs=[1, 2])
    reply = service.User(request, timeout=10)

for user in reply.data:
    print(user.name, user.age, user.email)
