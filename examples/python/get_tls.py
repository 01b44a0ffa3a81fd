# Looks users up over TLS, and trusts the certificate in cert.pem of this folder.
# It needs what get.py needs.
import grpc

import api_pb2
import api_pb2_grpc

with open("cert.pem", "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())

with grpc.secure_channel("localhost:50051", credentials) as channel:
    service = api_pb2_grpc.MyServiceStub(channel)
    request = api_pb2.UserReq(userIDs=[1, 2])
    reply = service.User(request, timeout=10)

for user in reply.data:
    print(user.name, user.age, user.email)
