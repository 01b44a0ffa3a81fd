import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { MyService } from "./api_pb";

const transport = createConnectTransport({ baseUrl: "http://localhost:50051" });
const service = createClient(MyService, transport);

try {
  const reply = await service.user({ userIDs: [1, 2] }, { timeoutMs: 10_000 });
  for (const user of reply.data) {
    const item = document.createElement("li");
    item.textContent = `${user.name} ${user.age} ${user.email}`;
    document.querySelector("#users")?.append(item);
  }
} catch (error) {
  const failure = document.querySelector("#failure");
  if (failure) failure.textContent = String(error);
}
